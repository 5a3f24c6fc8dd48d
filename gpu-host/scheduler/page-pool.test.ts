import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type PageLease, PagePool, type TokenText } from './page-pool.ts'

const CELLS = 4

function textOf(...tokens: number[]): TokenText {
  return { tokenCount: tokens.length, tokenAt: (position) => tokens[position] ?? -1 }
}

/** A sequence that has run `tokens` to the end. */
function fill(pool: PagePool, scope: string, tokens: number[]): PageLease {
  const text = textOf(...tokens)
  const lease = pool.acquire(scope, text)
  expect(pool.grow(lease, tokens.length)).toBe(true)
  pool.publish(lease, text, tokens.length)
  return lease
}

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

describe('PagePool', () => {
  it('hits the full pages of an equal beginning, and never the last token', () => {
    const pool = new PagePool({ pageCount: 20, pageCells: CELLS })
    const first = fill(pool, 'a', range(14))
    expect(pool.acquire('a', textOf(...range(14), 99)).hitCells).toBe(12)
    expect(pool.acquire('a', textOf(...range(13))).pages).toEqual(first.pages.slice(0, 3))
    expect(pool.acquire('a', textOf(...range(12))).hitCells).toBe(8)
    expect(pool.acquire('a', textOf(0, 1, 2, 3, 4, 5, 9, 7, 8)).hitCells).toBe(4)
    expect(pool.acquire('a', textOf(9, ...range(13))).hitCells).toBe(0)
    expect(pool.acquire('a', textOf(0)).hitCells).toBe(0)
  })

  it('never hits across scopes, nor a page in the middle of another text', () => {
    const pool = new PagePool({ pageCount: 20, pageCells: CELLS })
    fill(pool, 'a', range(12))
    expect(pool.acquire('b', textOf(...range(12))).hitCells).toBe(0)
    expect(pool.acquire('a', textOf(...range(12).slice(4))).hitCells).toBe(0)
  })

  it('gives out what is cached, least recently used and deepest first, never what is held', () => {
    const pool = new PagePool({ pageCount: 6, pageCells: CELLS })
    const old = fill(pool, 'a', range(8))
    const held = fill(pool, 'b', range(8))
    pool.release(old)
    expect(pool.counts).toEqual({ used: 2, cached: 2, free: 2 })
    const large = pool.acquire('c', textOf(...range(12)))
    expect(pool.grow(large, 12)).toBe(true)
    expect(pool.evictions).toBe(1)
    // The first page of the old one is there still.
    const again = pool.acquire('a', textOf(...range(9)))
    expect(again.hitCells).toBe(CELLS)
    expect(pool.grow(large, 16)).toBe(false)
    expect(large.pages).toHaveLength(3)
    expect(pool.acquire('b', textOf(...range(9))).pages).toEqual(held.pages)
  })

  it('takes two equal pages that ran side by side for one, and frees the other', () => {
    const pool = new PagePool({ pageCount: 4, pageCells: CELLS })
    const text = textOf(...range(8))
    const leases = [pool.acquire('a', text), pool.acquire('a', text)]
    for (const lease of leases) pool.grow(lease, 8)
    for (const lease of leases) pool.publish(lease, text, 8)
    for (const lease of leases) pool.release(lease)
    expect(pool.counts).toEqual({ used: 0, cached: 2, free: 2 })
  })

  it('refuses a lease that was released', () => {
    const pool = new PagePool({ pageCount: 4, pageCells: CELLS })
    const lease = fill(pool, 'a', [1])
    pool.release(lease)
    expect(() => pool.release(lease)).toThrow('released')
    expect(() => pool.grow(lease, 1)).toThrow('released')
  })
})

/**
 * A model of the device: what the cells of each page hold, as "scope:tokens so far". Every hit must
 * find there what its own tokens would have left, and nobody may write what another one reads.
 */
class Device {
  readonly pool: PagePool
  readonly cells = new Map<string, string>()
  readonly running: { lease: PageLease; text: number[]; filled: number }[] = []

  constructor(pageCount: number, hash?: (tokens: Int32Array) => number) {
    this.pool = new PagePool({ pageCount, pageCells: CELLS, ...(hash && { hash }) })
  }

  content(scope: string, text: readonly number[], position: number): string {
    return `${scope}:${text.slice(0, position + 1).join(',')}`
  }

  start(scope: string, text: number[]): void {
    const lease = this.pool.acquire(scope, textOf(...text))
    expect(lease.hitCells).toBeLessThan(text.length)
    expect(lease.hitCells % CELLS).toBe(0)
    this.running.push({ lease, text, filled: lease.hitCells })
    this.check()
  }

  write(index: number, count: number): void {
    const one = this.running[index % Math.max(1, this.running.length)]
    if (one === undefined) return
    const { lease, text } = one
    const end = Math.min(text.length, one.filled + count)
    const others = this.running.filter((other) => other !== one)
    if (!this.pool.grow(lease, end)) {
      expect(this.pool.available).toBeLessThan(this.pool.pagesFor(end) - lease.pages.length)
      return
    }
    for (; one.filled < end; one.filled++) {
      const page = lease.pages[Math.floor(one.filled / CELLS)] ?? -1
      for (const other of others) expect(other.lease.pages).not.toContain(page)
      this.cells.set(`${page}.${one.filled % CELLS}`, this.content(lease.scope, text, one.filled))
    }
    this.pool.publish(lease, textOf(...text), one.filled)
    this.check()
  }

  end(index: number): void {
    const [one] = this.running.splice(index % Math.max(1, this.running.length), 1)
    if (one !== undefined) this.pool.release(one.lease)
    this.check()
  }

  check(): void {
    for (const { lease, text, filled } of this.running) {
      for (let position = 0; position < filled; position++) {
        const page = lease.pages[Math.floor(position / CELLS)]
        const found = this.cells.get(`${page}.${position % CELLS}`)
        expect(found).toBe(this.content(lease.scope, text, position))
      }
    }
    const held = new Set(this.running.flatMap(({ lease }) => lease.pages))
    const { used, cached, free } = this.pool.counts
    // A page that two sequences computed side by side is held by its first owner's twin, too.
    expect(used).toBeGreaterThanOrEqual(held.size)
    expect(used + cached + free).toBe(PAGES)
    if (this.running.length === 0) expect(used).toBe(0)
  }
}

const PAGES = 12
/** Beginnings that many texts share, and tails of their own. */
const text = fc
  .tuple(fc.nat(2), fc.integer({ min: 0, max: 4 * CELLS }), fc.array(fc.nat(1), { maxLength: 6 }))
  .map(([base, length, tail]) => [
    ...Array.from({ length }, (_, index) => (index % CELLS === 1 ? base : 0)),
    ...tail,
    9,
  ])
const operation = fc.oneof(
  fc.record({
    kind: fc.constant('start' as const),
    scope: fc.constantFrom('ten_a', 'ten_b'),
    text,
  }),
  fc.record({
    kind: fc.constant('write' as const),
    index: fc.nat(9),
    count: fc.integer({ min: 1, max: 16 }),
  }),
  fc.record({ kind: fc.constant('end' as const), index: fc.nat(9) }),
)

describe('PagePool, by random sequences', () => {
  it.each([
    ['its own hash', undefined],
    ['a hash that always collides', () => 7],
    ['a hash of two values', (tokens: Int32Array) => tokens[0] ?? 0],
  ])('reads what was written for it alone, and loses no page, with %s', (_, hash) => {
    let hits = 0
    let evictions = 0
    fc.assert(
      fc.property(fc.array(operation, { minLength: 30, maxLength: 60 }), (operations) => {
        const device = new Device(PAGES, hash)
        for (const next of operations) {
          if (next.kind === 'start') device.start(next.scope, next.text)
          else if (next.kind === 'write') device.write(next.index, next.count)
          else device.end(next.index)
          hits += device.running.at(-1)?.lease.hitCells ?? 0
        }
        evictions += device.pool.evictions
        while (device.running.length > 0) device.end(0)
      }),
      { numRuns: 100 },
    )
    // Not vacuous.
    expect(hits).toBeGreaterThan(0)
    expect(evictions).toBeGreaterThan(0)
  })
})
