/** The frame of every page: head, navigation, notice, content. */
import { html } from 'hono/html'
import { type AssetName, type AssetTexts, assetPath } from './assets.ts'
import { type Content, type Html, path } from './html.ts'
import type { Viewer } from './wire.ts'

export interface Page {
  readonly title: string
  readonly content: Content
  /** Beside those that every page has. */
  readonly assets?: readonly AssetName[]
}

export interface Frame {
  /** null = nobody is signed in. */
  readonly viewer: Viewer | null
  /** Whose pages these are; null = nobody's. */
  readonly tenantName: string | null
  /** Path of this page. */
  readonly here: string
  /** What was just done. */
  readonly notice: string | null
  readonly texts: AssetTexts | undefined
}

export function document(page: Page, frame: Frame): Html {
  const { title, content, assets = [] } = page
  const all: AssetName[] = ['pages.css', 'pages.js', ...assets]
  const link = (name: AssetName): Html =>
    name.endsWith('.css')
      ? html`<link rel="stylesheet" href="${assetPath(frame.texts, name)}">`
      : html`<script defer src="${assetPath(frame.texts, name)}"></script>`
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title} · Nozzle</title>
<link rel="icon" href="data:,">
${all.map(link)}
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<a class="name" href="/ui">Nozzle</a>
${frame.viewer === null ? null : navigation(frame.viewer, frame)}
</header>
<main id="content" tabindex="-1">
<h1>${title}</h1>
${frame.notice === null ? null : html`<p class="notice" role="status">${frame.notice}</p>`}
${content}
</main>
</body>
</html>`
}

interface NavItem {
  readonly name: string
  readonly href: string
}

function navigation(viewer: Viewer, { tenantName, here }: Frame): Html {
  const groups = [
    { label: 'Pool', items: viewer.tenant === null ? POOL_ITEMS : [] },
    { label: tenantName ?? '', items: tenantName === null ? [] : tenantItems(viewer, tenantName) },
  ].filter(({ items }) => items.length > 0)
  return html`${groups.map(
    ({ label, items }) => html`<nav aria-label="${label}"><span class="group">${label}</span>
<ul>${items.map((item) => navLink(item, here))}</ul></nav>`,
  )}
<form method="post" action="/ui/sign-out"><button class="quiet">Sign out</button></form>`
}

function navLink({ name, href }: NavItem, here: string): Html {
  const current = here === href || here.startsWith(`${href}/`)
  return current
    ? html`<li><a href="${href}" aria-current="page">${name}</a></li>`
    : html`<li><a href="${href}">${name}</a></li>`
}

const POOL_ITEMS: readonly NavItem[] = [
  { name: 'Hosts', href: '/ui/pool' },
  { name: 'Residency', href: '/ui/residency' },
  { name: 'Latency', href: '/ui/latency' },
  { name: 'Savings', href: '/ui/savings' },
  { name: 'Tenants', href: '/ui/tenants' },
]

/** A key that may only generate has the playground alone. */
function tenantItems({ scopes }: Viewer, tenantName: string): NavItem[] {
  const at = (page: string): string => path('ui', 't', tenantName, page)
  const managed = [
    { name: 'Models', href: at('models') },
    { name: 'Usage', href: at('usage') },
    { name: 'Invoices', href: at('invoices') },
    { name: 'Keys', href: at('keys') },
  ]
  const playground = { name: 'Playground', href: at('playground') }
  const mayGenerate = scopes?.includes('generate') ?? true
  const mayManage = scopes?.includes('deploy') ?? true
  return [...(mayManage ? managed : []), ...(mayGenerate ? [playground] : [])]
}
