/**
 * What a split, a promotion or a rollback makes of a model's lanes. Pure: the model as it is in,
 * the lanes as they shall be out; one statement applies them (#db/queries/deployments.ts).
 */
import type { DeploymentChange } from '#db/queries/deployments.ts'
import type { ModelSummary } from '#db/queries/models.ts'
import { EdgeError } from '../errors.ts'

/** What the plans read of a model. */
export interface Lanes extends Pick<ModelSummary, 'name' | 'version' | 'replaced'> {
  readonly canary: Pick<NonNullable<ModelSummary['canary']>, 'version' | 'weight'> | null
}

export type LanePlan = Pick<DeploymentChange, 'main' | 'canary' | 'replaces'>

export interface VersionShare {
  readonly version: number
  /** Percent of requests. */
  readonly weight: number
}

/** The canary that runs gets another weight. Throws `version_unavailable` when none runs. */
export function planWeight(lanes: Lanes, weight: number): LanePlan {
  const { version } = runningCanary(lanes)
  return { main: lanes.version, canary: { version, weight }, replaces: null }
}

/**
 * One or two versions share the requests. The main version stays the main one where it is named;
 * else the first that is named becomes it.
 */
export function planShares(lanes: Lanes, shares: readonly VersionShare[]): LanePlan {
  const main = shares.find(({ version }) => version === lanes.version) ?? shares[0]
  const canary = shares.find((share) => share !== main) ?? null
  const sum = shares.reduce((total, { weight }) => total + weight, 0)
  if (main === undefined || sum !== 100 || main.version === canary?.version) {
    throw new EdgeError('invalid_request', 'Name one or two versions with weights that make 100.', {
      param: 'versions',
    })
  }
  return { main: main.version, canary, replaces: replacedBy(lanes, main.version) }
}

/** The canary becomes the main version. Throws `version_unavailable` when none runs. */
export function planPromotion(lanes: Lanes): LanePlan {
  const { version } = runningCanary(lanes)
  return { main: version, canary: null, replaces: replacedBy(lanes, version) }
}

/**
 * Back to a version, or to the one that the main version replaced; a canary ends. Throws
 * `version_unavailable` when there is nothing to go back to.
 */
export function planRollback(lanes: Lanes, to: number | null): LanePlan {
  const main = to ?? lanes.replaced
  if (main !== null) return { main, canary: null, replaces: null }
  throw new EdgeError(
    'version_unavailable',
    `Version ${lanes.version} of "${lanes.name}" replaced none that a rollback could go to.`,
    { param: 'to' },
  )
}

/** Going back is no replacement: a later rollback must not come forward again. */
function replacedBy(lanes: Lanes, main: number): number | null {
  return main > lanes.version ? lanes.version : null
}

function runningCanary({ name, canary }: Lanes): VersionShare {
  if (canary !== null) return canary
  throw new EdgeError('version_unavailable', `No canary of "${name}" runs.`)
}
