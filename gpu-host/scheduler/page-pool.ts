/**
 * Pure: who has which page of the engine's KV pool, and which full pages a new sequence may take
 * over. Pages of equal beginnings form a tree per scope; a page hangs below the page before it, so
 * a hit is a whole chain of pages, each verified token by token.
 *
 *   free ──grow──► held (private) ──publish──► held (cached, shared)
 *     ▲                 │ release                   │ last release    ▲ acquire
 *     │◄────────────────┘                           ▼                 │
 *     └───────────────── evict, least recently used ── cached, unreferenced
 *
 * Invariants: a page is published only when all its cells are filled, and nobody writes it from
 * then on; a chain never leaves its scope; whoever references a page references all before it, so
 * unreferenced pages are evicted from the end of a chain.
 */

/** Tokens by position. */
export interface TokenText {
  readonly tokenCount: number
  tokenAt(position: number): number
}

export interface PagePoolOptions {
  readonly pageCount: number
  /** Tokens of a page. */
  readonly pageCells: number
  /** Any function of the tokens: a collision costs a hit, never a wrong one. */
  readonly hash?: (tokens: Int32Array) => number
}

export interface PageCounts {
  readonly used: number
  readonly cached: number
  readonly free: number
}

interface Node {
  readonly children: Map<number, CachedPage>
}

interface CachedPage extends Node {
  readonly page: number
  readonly hash: number
  readonly tokens: Int32Array
  readonly parent: CachedPage | null
  readonly scope: string
  /** Leases that have it in their chain. */
  references: number
}

/** One sequence's pages. Only the pool changes it. */
export interface PageLease {
  readonly scope: string
  /** Its page table. */
  readonly pages: readonly number[]
  /** Cells that were filled when it was acquired. */
  readonly hitCells: number
}

interface OpenLease extends PageLease {
  readonly pages: number[]
  /** The cached page of each full page; it may be a twin of the lease's own. */
  readonly chain: CachedPage[]
  isPublishing: boolean
}

export class PagePool {
  readonly pageCells: number
  readonly #pageCount: number
  readonly #hash: (tokens: Int32Array) => number
  /** A stack: what was used last is used again first, so that untouched memory stays untouched. */
  readonly #free: number[]
  readonly #scopes = new Map<string, Node>()
  /** Unreferenced pages, least recently used first; a page stands before the one it follows. */
  readonly #evictable = new Set<CachedPage>()
  readonly #leases = new Set<PageLease>()
  #evictions = 0

  constructor({ pageCount, pageCells, hash = hashTokens }: PagePoolOptions) {
    this.pageCells = pageCells
    this.#pageCount = pageCount
    this.#hash = hash
    this.#free = Array.from({ length: pageCount }, (_, index) => pageCount - 1 - index)
  }

  get counts(): PageCounts {
    const free = this.#free.length
    const cached = this.#evictable.size
    return { used: this.#pageCount - free - cached, cached, free }
  }

  /** Pages that `grow` can give out. */
  get available(): number {
    return this.#free.length + this.#evictable.size
  }

  /** Cached pages given up so far. */
  get evictions(): number {
    return this.#evictions
  }

  pagesFor(cells: number): number {
    return Math.ceil(cells / this.pageCells)
  }

  /**
   * The longest cached beginning of `text` in `scope`, short of its last token: that one is always
   * computed, since its row gives the next token.
   */
  acquire(scope: string, text: TokenText): PageLease {
    const chain: CachedPage[] = []
    const pagesMax = Math.floor((text.tokenCount - 1) / this.pageCells)
    let node = this.#scopes.get(scope)
    while (node !== undefined && chain.length < pagesMax) {
      const found = this.#find(node, this.#read(text, chain.length))
      if (found !== null) chain.push(found)
      node = found ?? undefined
    }
    for (const cached of chain) this.#reference(cached)
    const lease: OpenLease = {
      scope,
      pages: chain.map(({ page }) => page),
      hitCells: chain.length * this.pageCells,
      chain,
      isPublishing: true,
    }
    this.#leases.add(lease)
    return lease
  }

  /** Pages enough for `cells` cells; false = there are not enough, and nothing has changed. */
  grow(lease: PageLease, cells: number): boolean {
    const open = this.#requireOpen(lease)
    const missing = this.pagesFor(cells) - open.pages.length
    if (missing > this.available) return false
    for (let i = 0; i < missing; i++) open.pages.push(this.#take())
    return true
  }

  /** Says that the first `filledCells` cells hold `text`: full pages can be hit from now on. */
  publish(lease: PageLease, text: TokenText, filledCells: number): void {
    const open = this.#requireOpen(lease)
    const { scope, pages, chain } = open
    while (open.isPublishing && (chain.length + 1) * this.pageCells <= filledCells) {
      const page = pages[chain.length]
      if (page === undefined) throw new Error('cells are filled that the lease has no page for')
      const tokens = this.#read(text, chain.length)
      const parent = chain.at(-1) ?? null
      const siblings = (parent ?? this.#scope(scope)).children
      const hash = this.#hash(tokens)
      let cached = siblings.get(hash)
      if (cached === undefined) {
        cached = { page, hash, tokens, parent, scope, references: 1, children: new Map() }
        siblings.set(hash, cached)
      } else if (areEqual(cached.tokens, tokens)) {
        // Another sequence was faster. Both keep their page; ours is free once it is released.
        this.#reference(cached)
      } else {
        open.isPublishing = false
        return
      }
      chain.push(cached)
    }
  }

  /** Gives all pages back; published ones stay cached. */
  release(lease: PageLease): void {
    const { pages, chain } = this.#requireOpen(lease)
    this.#leases.delete(lease)
    for (let index = pages.length - 1; index >= 0; index--) {
      const [page, cached] = [pages[index], chain[index]]
      if (page !== undefined && cached?.page !== page) this.#free.push(page)
      if (cached === undefined) continue
      cached.references -= 1
      if (cached.references === 0) this.#evictable.add(cached)
    }
  }

  #find(node: Node, tokens: Int32Array): CachedPage | null {
    const found = node.children.get(this.#hash(tokens))
    return found !== undefined && areEqual(found.tokens, tokens) ? found : null
  }

  #read(text: TokenText, index: number): Int32Array {
    const first = index * this.pageCells
    return Int32Array.from({ length: this.pageCells }, (_, offset) => text.tokenAt(first + offset))
  }

  #reference(cached: CachedPage): void {
    cached.references += 1
    this.#evictable.delete(cached)
  }

  #scope(key: string): Node {
    const known = this.#scopes.get(key)
    if (known !== undefined) return known
    const scope: Node = { children: new Map() }
    this.#scopes.set(key, scope)
    return scope
  }

  /** A page that nothing references; the caller has seen that there is one. */
  #take(): number {
    const free = this.#free.pop()
    if (free !== undefined) return free
    const [oldest] = this.#evictable
    if (oldest === undefined) throw new Error('no page is left')
    this.#evictable.delete(oldest)
    const scope = this.#scope(oldest.scope)
    const siblings = (oldest.parent ?? scope).children
    siblings.delete(oldest.hash)
    if (scope.children.size === 0) this.#scopes.delete(oldest.scope)
    this.#evictions += 1
    return oldest.page
  }

  #requireOpen(lease: PageLease): OpenLease {
    if (!this.#leases.has(lease)) throw new Error('the lease was released')
    // Every lease is made by `acquire`, as an OpenLease.
    return lease as OpenLease
  }
}

/** FNV-1a over the tokens. */
function hashTokens(tokens: Int32Array): number {
  let hash = 0x811c_9dc5
  for (const token of tokens) hash = Math.imul(hash ^ token, 0x0100_0193)
  return hash >>> 0
}

function areEqual(one: Int32Array, other: Int32Array): boolean {
  return one.length === other.length && one.every((token, index) => token === other[index])
}
