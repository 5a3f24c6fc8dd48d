/** `docs/security.md` leads to tests that there are: a link's title is, or is part of, a test's. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { TREE_ROOT as root } from './test/source-tree.ts'

const PAGE = join('docs', 'security.md')
const text = readFileSync(join(root, PAGE), 'utf8')

interface Proof {
  readonly path: string
  readonly title: string
}

/** `[words](path "title")`: what a reader sees when pointing at the link. */
function proofsIn(words: string): Proof[] {
  return [...words.matchAll(/\]\(([^)\s]+\.test\.ts) "([^"]+)"\)/g)].map(
    ([, path = '', title = '']) => ({
      path: normalize(join(dirname(PAGE), path)),
      title,
    }),
  )
}

/** Whether a file has such a test, however its source quotes the title. */
function hasTest(source: string, title: string): boolean {
  const quoted = [title, title.replaceAll("'", "\\'")]
  return source
    .split('\n')
    .some((line) => /['"`]/.test(line) && quoted.some((words) => line.includes(words)))
}

const held = text.slice(text.indexOf('## What holds'), text.indexOf('## What does not hold'))
/** Items of lists, which go on in lines that stand further in. */
const promises = held.split(/\n(?=- )/).slice(1)

describe('each promise of docs/security.md', () => {
  it('has a proof', () => {
    expect(promises.length).toBeGreaterThan(25)
    expect(promises.filter((line) => proofsIn(line).length === 0)).toEqual([])
  })

  it.each(proofsIn(held))('leads to a test: $path, "$title"', ({ path, title }) => {
    expect(existsSync(join(root, path)), path).toBe(true)
    expect(hasTest(readFileSync(join(root, path), 'utf8'), title), title).toBe(true)
  })

  it('would not lead to one that is gone', () => {
    expect(hasTest("  it('keeps a promise', () => {", 'keeps a promise')).toBe(true)
    expect(hasTest("  it('keeps a promise', () => {", 'keeps another')).toBe(false)
    expect(proofsIn('- a: [b](../c/d.test.ts "e f"), [g](h.md)')).toEqual([
      { path: 'c/d.test.ts', title: 'e f' },
    ])
  })

  it('has links that are written as links', () => {
    expect(held.match(/\.test\.ts/g)?.length).toBe(proofsIn(held).length)
  })
})
