/**
 * Slots, pages and sequences as a host moves them, by the host's own books (slot-table.ts,
 * page-pool.ts, kv-identity.ts, row-guard.ts), over a device that remembers of each cell whose it
 * is and what filled it. Names are those that systems in earnest have mixed up: a tenant called as
 * an adapter, an adapter with new weights or another scale under its old name, or converted anew
 * under its old digest; loads fail, requests are cancelled and try to go on, slots and pages are
 * given to others, the base changes below a cache, the numbers of loads run out.
 */
import fc from 'fast-check'
import { type SlotPin, SlotTable } from '../../adapters/slot-table.ts'
import { kvIdentity } from '../../scheduler/kv-identity.ts'
import { type PageLease, PagePool } from '../../scheduler/page-pool.ts'
import { findBreach, type GuardedSequence, toOwner } from '../../scheduler/row-guard.ts'

export interface IdentityTally {
  operations: number
  rows: number
  /** Cells that were found filled. */
  hitCells: number
  /** Times that rows were kept from running. */
  refused: number
  pageEvictions: number
  loads: number
}

export interface IdentityOutcome {
  readonly cases: number
  readonly tally: IdentityTally
  /** What fast-check says, with the least operations that show it; null = all held. */
  readonly failure: string | null
}

/** What lies in RAM under a digest. */
interface Version {
  readonly digest: string
  /** What a slot holds of it. */
  readonly content: string
}

interface Running extends GuardedSequence {
  readonly text: readonly number[]
  readonly slot: number
  readonly pin: SlotPin | null
  readonly version: Version | null
  pages: PageLease | null
  filled: number
  isReleased: boolean
}

type Operation =
  | { kind: 'start'; tenant: string; name: string | null; text: number[] }
  | { kind: 'run'; index: number; rows: number }
  | { kind: 'end'; index: number }
  | { kind: 'cancel'; index: number }
  | { kind: 'loaded'; index: number; isWell: boolean }
  | { kind: 'deploy'; name: string; weights: number; scale: number }
  | { kind: 'convert'; name: string }
  | { kind: 'rebase' }

const CELLS = 2
const PAGES = 9
const NAMES = ['m', 'n', 'ten_a']
const BASES = ['sha256:base', 'sha256:other']
const digestOf = (weights: number, scale: number): string => `sha256:${weights}.${scale}`
/** One is called as an adapter is, others as if to end the text of a key and go on in it. */
const TENANTS = ['ten_a', 'ten_b', 'm', digestOf(0, 0), 'ten_a","sha256:base', '["ten_a"']
const TALLY = { operations: 0, rows: 0, hitCells: 0, refused: 0, pageEvictions: 0, loads: 0 }

class IdentityWorld {
  readonly tally: IdentityTally
  readonly #table: SlotTable
  readonly #pool = new PagePool({ pageCount: PAGES, pageCells: CELLS })
  readonly #versions = new Map<string, Version>()
  /** By slot: what was loaded into it last, as the host's books have it. */
  readonly #fillings = new Map<number, Version>()
  readonly #loading = new Set<number>()
  /** The device: by slot what is in it, by cell what filled it. */
  readonly #slots = new Map<number, string>()
  readonly #cells = new Map<string, string>()
  readonly #running: Running[] = []
  /** Cancelled, and trying to go on. */
  readonly #ghosts: Running[] = []
  #base = 0
  #conversions = 0

  constructor(tally: IdentityTally, slots: number, generation: number) {
    this.tally = tally
    this.#table = new SlotTable(slots, generation)
    for (const [index, name] of NAMES.entries()) this.#deploy(name, index >> 1, index & 1)
  }

  apply(operation: Operation): void {
    this.tally.operations += 1
    const one = 'index' in operation ? this.#pick(operation.index) : undefined
    switch (operation.kind) {
      case 'start':
        this.#start(operation)
        break
      case 'run':
        if (one !== undefined) this.#run(one, operation.rows)
        break
      case 'end':
      case 'cancel':
        if (one !== undefined) this.#end(one)
        if (one?.lease && operation.kind === 'cancel') this.#ghosts.push(one)
        break
      case 'loaded':
        this.#finishLoad(operation.index, operation.isWell)
        break
      case 'deploy':
        this.#deploy(operation.name, operation.weights, operation.scale)
        break
      case 'convert':
        this.#convert(operation.name)
        break
      case 'rebase':
        this.#rebase()
        break
    }
    for (const ghost of this.#ghosts) {
      if (this.#mayRun(ghost)) throw new Error('a request that was cancelled goes on')
    }
  }

  end(): void {
    while (this.#running.length > 0) this.apply({ kind: 'end', index: 0 })
    this.tally.pageEvictions += this.#pool.evictions
    const { used } = this.#pool.counts
    if (used !== 0) throw new Error(`${used} pages are held by nobody`)
  }

  #pick(index: number): Running | undefined {
    return this.#running[index % Math.max(1, this.#running.length)]
  }

  /** New weights, or the same with another scale, under the old name. */
  #deploy(name: string, weights: number, scale: number): void {
    const content = `weights ${weights} × ${scale}`
    this.#versions.set(name, { digest: digestOf(weights, scale), content })
  }

  /** The same files under the same digest, made into another pack. */
  #convert(name: string): void {
    const version = this.#versions.get(name)
    if (version === undefined) return
    this.#conversions += 1
    const content = `${version.content}, conversion ${this.#conversions}`
    this.#versions.set(name, { ...version, content })
  }

  #rebase(): void {
    while (this.#running.length > 0) this.#end(this.#running[0] as Running)
    this.#base = 1 - this.#base
  }

  #start({ tenant, name, text }: Extract<Operation, { kind: 'start' }>): void {
    const version = name === null ? null : (this.#versions.get(name) ?? null)
    const pin = version === null ? null : this.#pin(version)
    if (version !== null && pin === null) return
    // A lease says what its slot was loaded with, which may be an earlier conversion.
    const filling = pin === null ? null : (this.#fillings.get(pin.slot) ?? null)
    const isCurrent = (): boolean =>
      pin !== null && filling !== null && !one.isReleased && this.#table.holds(pin, filling.digest)
    const one: Running = {
      ...{ tenantId: tenant, digest: version?.digest ?? null, text, pin, version: filling },
      lease: filling === null ? null : { ...filling, isCurrent },
      slot: pin?.slot ?? 0,
      ...{ pages: null, filled: 0, isReleased: false },
    }
    this.#running.push(one)
  }

  #pin(version: Version): SlotPin | null {
    const joined = this.#table.pin(version.digest)
    if (joined !== null) return joined
    const slot = this.#table.pickFree()
    if (slot === null) return null
    if (this.#table.stateOf(slot) === 'resident') {
      this.#table.startEvicting(slot)
      this.#slots.delete(slot)
      this.#table.finishEvicting(slot)
    }
    const pin = this.#tryLoad(slot, version)
    if (pin === null) return null
    this.tally.loads += 1
    this.#slots.delete(slot)
    this.#fillings.set(slot, version)
    this.#loading.add(slot)
    return pin
  }

  /** A slot whose loads are used up takes none, which is as well. */
  #tryLoad(slot: number, { digest }: Version): SlotPin | null {
    try {
      return this.#table.startLoading(slot, digest)
    } catch {
      return null
    }
  }

  #finishLoad(index: number, isWell: boolean): void {
    const slot = [...this.#loading][index % Math.max(1, this.#loading.size)]
    const filling = slot === undefined ? undefined : this.#fillings.get(slot)
    if (slot === undefined || filling === undefined) return
    this.#loading.delete(slot)
    if (isWell) {
      this.#slots.set(slot, filling.content)
      this.#table.finishLoading(slot)
      return
    }
    this.#table.fail(slot)
    this.#table.finishFailure(slot)
  }

  #mayRun(one: Running): boolean {
    const { baseDigest } = this
    const cellsOf = one.pages?.scope ?? kvIdentity(toOwner(one, baseDigest))
    return findBreach(one, baseDigest, cellsOf) === null
  }

  get baseDigest(): string {
    return BASES[this.#base] ?? ''
  }

  #run(one: Running, rows: number): void {
    if (!this.#mayRun(one)) {
      this.tally.refused += 1
      return
    }
    const inSlot = this.#slots.get(one.slot)
    if (inSlot !== one.version?.content) {
      throw new Error(`rows for ${one.version?.content} ran with ${inSlot}`)
    }
    const { text } = one
    const tokens = { tokenCount: text.length, tokenAt: (at: number) => text[at] ?? -1 }
    if (one.pages === null) {
      one.pages = this.#pool.acquire(kvIdentity(toOwner(one, this.baseDigest)), tokens)
      one.filled = one.pages.hitCells
      this.tally.hitCells += one.filled
    }
    const end = Math.min(text.length, one.filled + rows)
    if (this.#pool.grow(one.pages, end)) {
      for (; one.filled < end; one.filled += 1) this.#fill(one, one.pages)
      this.#pool.publish(one.pages, tokens, one.filled)
    }
    for (let at = 0; at < one.filled; at += 1) {
      const found = this.#cells.get(this.#cellOf(one.pages, at))
      const own = this.#contentOf(one, at)
      if (found !== own) throw new Error(`${own} was read from a cell of ${found}`)
    }
  }

  #fill(one: Running, pages: PageLease): void {
    const cell = this.#cellOf(pages, one.filled)
    this.#cells.set(cell, this.#contentOf(one, one.filled))
    this.tally.rows += 1
  }

  #cellOf({ pages }: PageLease, at: number): string {
    return `${pages[Math.floor(at / CELLS)]}.${at % CELLS}`
  }

  /** All that a cell depends on, and whose it is; made without the host's own key. */
  #contentOf({ tenantId, version, text }: Running, at: number): string {
    const key = [tenantId, this.#base, version?.content ?? null, text.slice(0, at + 1)]
    return JSON.stringify(key)
  }

  #end(one: Running): void {
    this.#running.splice(this.#running.indexOf(one), 1)
    one.isReleased = true
    if (one.pin !== null) this.#table.unpin(one.pin)
    if (one.pages !== null) this.#pool.release(one.pages)
  }
}

const index = fc.nat(7)
const name = fc.constantFrom(...NAMES)
/** Mostly the first two, so that each comes back to what it has said. */
const tenant = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...TENANTS.slice(0, 2)) },
  { weight: 1, arbitrary: fc.constantFrom(...TENANTS) },
)
/** Few beginnings, which many share. */
const text = fc
  .tuple(fc.nat(1), fc.integer({ min: CELLS, max: 3 * CELLS }), fc.nat(1))
  .map(([first, length, last]) => [...Array.from({ length }, () => first), last])
const operation = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('start' as const),
      tenant,
      name: fc.option(name, { freq: 6 }),
      text,
    }),
  },
  {
    weight: 20,
    arbitrary: fc.record({
      kind: fc.constant('run' as const),
      index,
      rows: fc.integer({ min: 1, max: 4 * CELLS }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('end' as const), index }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cancel' as const), index }) },
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('loaded' as const),
      index,
      // One load in eight fails.
      isWell: fc.nat(7).map((draw) => draw > 0),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('deploy' as const),
      name,
      weights: fc.nat(1),
      scale: fc.nat(1),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('convert' as const), name }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('rebase' as const) }) },
)
/** Most worlds are young; a few have loaded their slots for ever. */
const generation = fc.nat(5).map((draw) => (draw === 0 ? Number.MAX_SAFE_INTEGER - 3 : draw))

/** `cases` worlds of 20 to 70 operations each. The same seed makes the same worlds. */
export function checkIdentity(seed: number, cases: number): IdentityOutcome {
  const tally: IdentityTally = { ...TALLY }
  const operations = fc.array(operation, { minLength: 20, maxLength: 70 })
  const slots = fc.integer({ min: 1, max: 2 })
  const property = fc.property(slots, generation, operations, (count, loads, all) => {
    const world = new IdentityWorld(tally, count, loads)
    for (const each of all) world.apply(each)
    world.end()
  })
  const details = fc.check(property, { seed, numRuns: cases })
  const failure = details.failed ? (fc.defaultReportMessage(details) ?? 'it failed') : null
  return { cases: details.numRuns, tally, failure }
}
