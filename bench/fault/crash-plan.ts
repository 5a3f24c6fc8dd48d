/**
 * What happens in one case, as its seed and number say: who dies, when, and under which requests.
 * Pure: equal seeds and numbers give equal plans.
 */
import { Random } from '../../native/test/support/random.ts'
import type { KillPoint } from './kill-point.ts'

export const VICTIMS = ['host', 'edge', 'writer', 'database'] as const
export type Victim = (typeof VICTIMS)[number]

export type Trigger =
  | { readonly at: 'time'; readonly ms: number }
  /** Counted by the clients, over all requests of the case. */
  | { readonly at: 'chunk'; readonly nth: number }
  | KillPoint

export interface PlannedRequest {
  readonly isStream: boolean
  readonly tokens: number
  readonly choices: number
}

export interface CrashPlan {
  readonly number: number
  readonly victim: Victim
  /** Which of the hosts, where a host dies. */
  readonly host: number
  readonly trigger: Trigger
  readonly requests: readonly PlannedRequest[]
}

export const REQUESTS_MAX = 5
const TOKENS_MIN = 4
const TOKENS_SPREAD = 28
const KILL_MS_MAX = 250

export function planCrash(seed: number, number: number, hosts: number): CrashPlan {
  const random = new Random('fault', 'real', seed, number)
  const victim = VICTIMS[number % VICTIMS.length] ?? 'host'
  const requests = Array.from({ length: 2 + random.integer(REQUESTS_MAX - 1) }, () => ({
    isStream: random.fraction() < 0.75,
    tokens: TOKENS_MIN + random.integer(TOKENS_SPREAD),
    choices: random.fraction() < 0.8 ? 1 : 2 + random.integer(2),
  }))
  return {
    number,
    victim,
    host: random.integer(hosts),
    trigger: drawTrigger(victim, random),
    requests,
  }
}

function drawTrigger(victim: Victim, random: Random): Trigger {
  if (victim === 'writer' || victim === 'database') {
    const phases = victim === 'writer' ? PHASES : PHASES.slice(0, 2)
    return {
      at: 'ingest',
      nth: random.fraction() < 0.8 ? 1 : 2,
      phase: phases[random.integer(phases.length)] ?? 'before',
      victim: victim === 'writer' ? 'edge' : 'backend',
    }
  }
  const kind = random.integer(victim === 'host' ? 4 : 2)
  if (kind === 0) return { at: 'time', ms: random.integer(KILL_MS_MAX) }
  if (kind === 1) return { at: 'chunk', nth: 1 + random.integer(TOKENS_SPREAD) }
  const cuts = [0, 1, random.fraction()]
  return {
    at: 'journal_write',
    nth: 1 + random.integer(TOKENS_SPREAD / 2),
    share: cuts[random.integer(cuts.length)] ?? 0,
  }
}

const PHASES = ['before', 'sent', 'committed'] as const
