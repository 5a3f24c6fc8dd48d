/**
 * Pure: which slot holds which adapter, and who pins it. No I/O, no clock, no waiting; a transition
 * that the diagram lacks throws, since after it a row could run with another tenant's adapter.
 *
 *             startLoading            finishLoading
 *   absent ────────────────► loading ───────────────► resident
 *     ▲ ▲                       │                        │
 *     │ │     finishFailure     ▼ fail                   │ startEvicting (no pins)
 *     │ └──────────────────── failed                     ▼
 *     └─────────────────────────────────────────────── evicting
 *                         finishEvicting
 *
 * An adapter is loading or resident in at most one slot. `startLoading` pins once, for the loader;
 * others may pin while it loads. Generations grow with every load into a slot, so a pin that
 * outlived its load cannot be taken for one on the next; a slot that has used them all up takes no
 * load more.
 */
export type SlotState = 'absent' | 'loading' | 'resident' | 'evicting' | 'failed'

export interface SlotPin {
  readonly slot: number
  readonly generation: number
}

interface Slot {
  readonly number: number
  state: SlotState
  digest: string | null
  generation: number
  pins: number
  /** Of the table's own count of uses; the least is the least recently used. */
  usedAt: number
}

export class SlotTable {
  readonly #slots: readonly Slot[]
  /** Adapters that are loading or resident. */
  readonly #byDigest = new Map<string, Slot>()
  #uses = 0

  /** @param generation how many loads its slots have had; for tests. */
  constructor(slotCount: number, generation = 0) {
    this.#slots = Array.from({ length: slotCount }, (_, index) => ({
      number: index + 1,
      state: 'absent',
      digest: null,
      generation,
      pins: 0,
      usedAt: 0,
    }))
  }

  stateOf(slot: number): SlotState {
    return this.#at(slot).state
  }

  isResident(digest: string): boolean {
    return this.#byDigest.get(digest)?.state === 'resident'
  }

  /** Loading or resident. */
  isHeld(digest: string): boolean {
    return this.#byDigest.has(digest)
  }

  residents(): string[] {
    return [...this.#byDigest]
      .filter(([digest]) => this.isResident(digest))
      .map(([digest]) => digest)
  }

  /**
   * The slot that the next load takes: an absent one, else the unpinned one whose adapter is worth
   * least; among equals the least recently used. null where every slot is pinned, or on its way.
   */
  pickFree(worthOf: (digest: string) => number = () => 0): number | null {
    let best: Slot | null = null
    let bestWorth = 0
    for (const slot of this.#slots) {
      if (slot.state === 'absent') return slot.number
      if (slot.state !== 'resident' || slot.pins > 0 || slot.digest === null) continue
      const worth = worthOf(slot.digest)
      const isBetter =
        best === null || worth < bestWorth || (worth === bestWorth && slot.usedAt < best.usedAt)
      if (!isBetter) continue
      best = slot
      bestWorth = worth
    }
    return best?.number ?? null
  }

  /** What is in the slot or on its way there; null = nothing. */
  digestOf(slot: number): string | null {
    return this.#at(slot).digest
  }

  /** Whether the pin still stands, on a slot that holds this adapter and is loaded. */
  holds({ slot: number, generation }: SlotPin, digest: string): boolean {
    const slot = this.#at(number)
    const isPinned = slot.generation === generation && slot.pins > 0
    return isPinned && slot.state === 'resident' && slot.digest === digest
  }

  /** Pins the slot in which the adapter is or is being loaded; null when there is none. */
  pin(digest: string): SlotPin | null {
    const slot = this.#byDigest.get(digest)
    if (slot === undefined) return null
    slot.pins += 1
    slot.usedAt = ++this.#uses
    return { slot: slot.number, generation: slot.generation }
  }

  /** True when the slot is now free for another. A pin of an earlier generation is gone already. */
  unpin({ slot: number, generation }: SlotPin): boolean {
    const slot = this.#at(number)
    if (slot.generation !== generation || slot.digest === null) return false
    if (slot.pins === 0) throw new Error(`slot ${number} was unpinned twice`)
    slot.pins -= 1
    return slot.pins === 0 && slot.state === 'resident'
  }

  startLoading(number: number, digest: string): SlotPin {
    const slot = this.#require(number, 'absent')
    if (this.#byDigest.has(digest)) throw new Error(`${digest} is in a slot already`)
    if (slot.generation >= Number.MAX_SAFE_INTEGER) throw new Error(`slot ${number} is worn out`)
    this.#byDigest.set(digest, slot)
    slot.state = 'loading'
    slot.digest = digest
    slot.generation += 1
    slot.pins = 1
    slot.usedAt = ++this.#uses
    return { slot: number, generation: slot.generation }
  }

  finishLoading(number: number): void {
    this.#require(number, 'loading').state = 'resident'
  }

  /** All pins are void: nobody holds a lease on a load that failed. */
  fail(number: number): void {
    this.#forget(this.#require(number, 'loading'), 'failed')
  }

  finishFailure(number: number): void {
    this.#require(number, 'failed').state = 'absent'
  }

  startEvicting(number: number): void {
    const slot = this.#require(number, 'resident')
    if (slot.pins > 0) throw new Error(`slot ${number} is pinned`)
    this.#forget(slot, 'evicting')
  }

  finishEvicting(number: number): void {
    this.#require(number, 'evicting').state = 'absent'
  }

  #forget(slot: Slot, state: 'failed' | 'evicting'): void {
    if (slot.digest !== null) this.#byDigest.delete(slot.digest)
    slot.digest = null
    slot.pins = 0
    slot.state = state
  }

  #require(number: number, state: SlotState): Slot {
    const slot = this.#at(number)
    if (slot.state !== state) throw new Error(`slot ${number} is ${slot.state}, not ${state}`)
    return slot
  }

  #at(number: number): Slot {
    const slot = this.#slots[number - 1]
    if (slot === undefined) throw new Error(`there is no slot ${number}`)
    return slot
  }
}
