/**
 * Pure: after how many steps a request would start that joined a queue now. Each sequence is a
 * lane that is free after the steps its request has left; those ahead take, in their order, the
 * lane that is free first. In steps, not in requests: ten short ones ahead are not ten long ones.
 */
export interface LaneSituation {
  /** Steps left of each running sequence. */
  readonly running: readonly number[]
  /** Steps that each request ahead will take, in the order of their starts. */
  readonly ahead: readonly number[]
  readonly sequenceCount: number
  /** Lanes, of those that are free first, that this request may not take. */
  readonly reserved: number
}

export function forecastSteps(situation: LaneSituation): number {
  const { running, ahead, sequenceCount, reserved } = situation
  const free = Math.max(0, sequenceCount - running.length)
  const lanes = [...running, ...Array.from({ length: free }, () => 0)].sort((a, b) => a - b)
  const usable = lanes.slice(Math.min(reserved, lanes.length - 1))
  for (const steps of ahead) insert(usable, (usable.shift() ?? 0) + steps)
  return usable[0] ?? 0
}

/** Keeps the order. */
function insert(sorted: number[], value: number): void {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((sorted[middle] ?? 0) <= value) low = middle + 1
    else high = middle
  }
  sorted.splice(low, 0, value)
}
