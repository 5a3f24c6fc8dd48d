/** The pool's secret as both ends of the wire have it in their environment. */
import { z } from 'zod'

const poolSecret = z.string().min(32, 'must be at least 32 characters')

/** For an object of zod. */
export const poolSecretEnvironment = {
  NOZZLE_POOL_SECRET: poolSecret,
  /** Good for signatures of others, never signed with: while a pool changes its secret. */
  NOZZLE_POOL_SECRET_ALSO: poolSecret.optional(),
}

const environment = z.object(poolSecretEnvironment)

export interface PoolSecrets {
  /** Signs. */
  readonly poolSecret: Uint8Array
  /** Good for signatures of others, `poolSecret` first. */
  readonly acceptedSecrets: readonly Uint8Array[]
}

export function toPoolSecrets(env: z.infer<typeof environment>): PoolSecrets {
  const encoder = new TextEncoder()
  const own = encoder.encode(env.NOZZLE_POOL_SECRET)
  const { NOZZLE_POOL_SECRET_ALSO: also } = env
  return {
    poolSecret: own,
    acceptedSecrets: also === undefined ? [own] : [own, encoder.encode(also)],
  }
}
