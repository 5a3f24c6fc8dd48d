/**
 * Style and scripts of the pages, by name. An entry hands their texts in: Node reads them from disk
 * (node-assets.ts), a Worker has them bundled (worker-assets.ts). A link carries the hash of the
 * text, so browsers keep it for good and still get every change.
 */
import { hashText } from '../hash-text.ts'
import type { EdgeContext } from '../request-context.ts'

const CONTENT_TYPES = {
  'pages.css': 'text/css; charset=utf-8',
  'uplot.css': 'text/css; charset=utf-8',
  'uplot.js': 'text/javascript; charset=utf-8',
  'charts.js': 'text/javascript; charset=utf-8',
  'pages.js': 'text/javascript; charset=utf-8',
  'playground.js': 'text/javascript; charset=utf-8',
} as const

export type AssetName = keyof typeof CONTENT_TYPES
export type AssetTexts = Readonly<Record<AssetName, string>>

/** Where a page finds the asset; `texts` absent = nowhere, and the page does without. */
export function assetPath(texts: AssetTexts | undefined, name: AssetName): string {
  const version = hashText(texts?.[name] ?? '').toString(36)
  return `/ui/assets/${name}?${version}`
}

/** null = there is none of that name. */
export function assetReply(
  c: EdgeContext,
  texts: AssetTexts | undefined,
  name: string,
): Response | null {
  if (texts === undefined || !isAsset(name)) return null
  return c.body(texts[name], 200, {
    'content-type': CONTENT_TYPES[name],
    'cache-control': 'public, max-age=31536000, immutable',
  })
}

function isAsset(name: string): name is AssetName {
  return Object.hasOwn(CONTENT_TYPES, name)
}
