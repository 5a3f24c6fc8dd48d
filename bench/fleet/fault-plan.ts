/** Which hosts of a run are killed and which are drained, and when. Pure and seeded. */
import { Random } from '../../native/test/support/random.ts'

export interface PlannedFault {
  readonly atMs: number
  readonly host: number
  readonly kind: 'kill' | 'drain'
  /** Of a killed host; its slots and RAM are empty in any case. */
  readonly keepsDisk: boolean
}

/** Of the pool, killed and drained each; one host at least. */
const SHARE = 0.01
const KILL_AT = 0.4
const DRAIN_AT = 0.7
/** Between two of a kind. */
const APART = 0.2
/** Until a host that died or was drained empty serves again. */
export const RESTART_MS = 5000

/** In a pool of at least three hosts, for the others must take over. */
export function planFaults(
  hosts: number,
  fromMs: number,
  toMs: number,
  seed: number,
): PlannedFault[] {
  if (hosts < 3) return []
  const random = new Random('faults', seed)
  const count = Math.ceil(SHARE * hosts)
  const left = Array.from({ length: hosts }, (_, i) => i)
  const draw = (): number => left.splice(random.integer(left.length), 1)[0] ?? 0
  const at = (share: number, i: number): number =>
    fromMs + (toMs - fromMs) * (share + (APART * i) / count)
  return Array.from({ length: count }, (_, i): PlannedFault[] => [
    { atMs: at(KILL_AT, i), host: draw(), kind: 'kill', keepsDisk: i % 2 === 0 },
    { atMs: at(DRAIN_AT, i), host: draw(), kind: 'drain', keepsDisk: true },
  ]).flat()
}
