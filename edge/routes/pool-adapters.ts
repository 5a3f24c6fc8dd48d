/**
 * GET /v1/pool/adapters, for the operator: which adapters hosts hold, in which tier, and whose they
 * are. As this edge last heard of the hosts.
 */
import { nameAdapters } from '#db/queries/adapter-versions.ts'
import type { Heartbeat } from '#protocol'
import type { Deps } from '../deps.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator } from '../tenant-access.ts'

/** Enough for a page; a host may name 100,000. */
const ADAPTERS_SHOWN_MAX = 500

interface Place {
  readonly host_id: string
  readonly tier: Heartbeat['adapters'][number]['tier']
  readonly sequences: number
}

/** Those in use first, then those in most memories. */
export function showPoolAdapters(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    await deps.pool.ready()
    const hosts = deps.pool.known()
    const places = collectPlaces(hosts)
    const shown = [...places].sort(byUse).slice(0, ADAPTERS_SHOWN_MAX)
    const names = await nameAdapters(
      deps.db,
      shown.map(([digest]) => digest),
    )
    return c.json({
      hosts: hosts.map(({ host_id, host_name }) => ({ host_id, host_name })),
      adapters_total: places.size,
      data: shown.map(([digest, held]) => ({
        digest,
        /** `<tenant>/<model>@<version>` of each that serves these bytes. */
        models: names.get(digest) ?? [],
        hosts: held,
      })),
    })
  }
}

function collectPlaces(hosts: readonly Heartbeat[]): Map<string, Place[]> {
  const places = new Map<string, Place[]>()
  for (const { host_id, adapters } of hosts) {
    for (const { digest, tier, sequences } of adapters) {
      const held = places.get(digest) ?? []
      held.push({ host_id, tier, sequences })
      places.set(digest, held)
    }
  }
  return places
}

const WEIGHTS = { slot: 1_000_000, ram: 1000, disk: 1 } as const

function byUse([, a]: [string, Place[]], [, b]: [string, Place[]]): number {
  const use = (places: readonly Place[]): number =>
    places.reduce((sum, { tier, sequences }) => sum + WEIGHTS[tier] * (1 + sequences), 0)
  return use(b) - use(a)
}
