/**
 * The simulation's calendar: a binary heap over typed arrays, so that millions of events make no
 * garbage. Events of one time come out in the order in which they went in, which makes a run
 * repeatable.
 */
const CAPACITY_START = 1024

export interface TimedEvent {
  atMs: number
  kind: number
  /** Whom it concerns. */
  target: number
  /** Of the target, so that an event that newer ones overtook can be told. */
  version: number
}

export class EventHeap {
  #at = new Float64Array(CAPACITY_START)
  #order = new Float64Array(CAPACITY_START)
  #kind = new Int32Array(CAPACITY_START)
  #target = new Int32Array(CAPACITY_START)
  #version = new Int32Array(CAPACITY_START)
  #length = 0
  #pushed = 0

  get length(): number {
    return this.#length
  }

  /** Infinity when it is empty. */
  get nextMs(): number {
    return this.#length === 0 ? Number.POSITIVE_INFINITY : (this.#at[0] ?? 0)
  }

  push(atMs: number, kind: number, target: number, version: number): void {
    if (this.#length === this.#at.length) this.#grow()
    let hole = this.#length++
    const order = this.#pushed++
    while (hole > 0) {
      const parent = (hole - 1) >> 1
      if (!this.#isBefore(atMs, order, parent)) break
      this.#move(parent, hole)
      hole = parent
    }
    this.#put(hole, atMs, order, kind, target, version)
  }

  /** Fills `event` with the earliest one; false when there is none. */
  pop(event: TimedEvent): boolean {
    if (this.#length === 0) return false
    event.atMs = this.#at[0] ?? 0
    event.kind = this.#kind[0] ?? 0
    event.target = this.#target[0] ?? 0
    event.version = this.#version[0] ?? 0
    this.#length -= 1
    if (this.#length > 0) this.#sink(this.#length)
    return true
  }

  /** Puts what is at `last` where the root was, and lets it sink. */
  #sink(last: number): void {
    const atMs = this.#at[last] ?? 0
    const order = this.#order[last] ?? 0
    let hole = 0
    for (let child = 1; child < this.#length; child = 2 * hole + 1) {
      const right = child + 1
      if (right < this.#length && this.#isEarlier(right, child)) child = right
      if (this.#isBefore(atMs, order, child)) break
      this.#move(child, hole)
      hole = child
    }
    const kind = this.#kind[last] ?? 0
    this.#put(hole, atMs, order, kind, this.#target[last] ?? 0, this.#version[last] ?? 0)
  }

  #isEarlier(a: number, b: number): boolean {
    return this.#isBefore(this.#at[a] ?? 0, this.#order[a] ?? 0, b)
  }

  #isBefore(atMs: number, order: number, other: number): boolean {
    const otherMs = this.#at[other] ?? 0
    return atMs < otherMs || (atMs === otherMs && order < (this.#order[other] ?? 0))
  }

  #move(from: number, to: number): void {
    const kind = this.#kind[from] ?? 0
    const target = this.#target[from] ?? 0
    this.#put(to, this.#at[from] ?? 0, this.#order[from] ?? 0, kind, target, 0)
    this.#version[to] = this.#version[from] ?? 0
  }

  #put(i: number, atMs: number, order: number, kind: number, target: number, version: number) {
    this.#at[i] = atMs
    this.#order[i] = order
    this.#kind[i] = kind
    this.#target[i] = target
    this.#version[i] = version
  }

  #grow(): void {
    const doubled = <T extends Float64Array | Int32Array>(old: T, next: T): T => {
      next.set(old)
      return next
    }
    const size = 2 * this.#at.length
    this.#at = doubled(this.#at, new Float64Array(size))
    this.#order = doubled(this.#order, new Float64Array(size))
    this.#kind = doubled(this.#kind, new Int32Array(size))
    this.#target = doubled(this.#target, new Int32Array(size))
    this.#version = doubled(this.#version, new Int32Array(size))
  }
}
