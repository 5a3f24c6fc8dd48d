/**
 * Limits of a tenant and of its keys: shown, changed, removed. The tenant's own are the operator's
 * to change; those of its keys are the tenant's too, within its own.
 */
import { z } from 'zod'
import {
  type LimitRow,
  type LimitScope,
  listLimits,
  removeLimits,
  setLimits,
} from '#db/queries/limits.ts'
import { requireOperator } from '../auth/authenticate.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { readJson } from '../read-body.ts'
import { type EdgeContext, identify } from '../request-context.ts'
import { accessTenant, audit } from '../tenant-access.ts'

const COUNT_MAX = 1_000_000_000_000
const PUSD_TEXT = 'must be whole pico-USD as text of digits, such as "50000000000000" for 50 USD'
const countLimit = z.int().min(0).max(COUNT_MAX).nullable().optional()

export const limitsBody = z
  .strictObject({
    requests_per_minute: countLimit,
    tokens_per_minute: countLimit,
    concurrency: countLimit,
    monthly_spend_pusd: z
      .string(PUSD_TEXT)
      .regex(/^\d{1,30}$/, PUSD_TEXT)
      .transform(BigInt)
      .nullable()
      .optional(),
  })
  .refine((fields) => Object.keys(fields).length > 0, 'must name a limit')

/** Absent = as it was; null = no limit. Here at once, at other edges within KEY_TTL_MS. */
export function changeLimits(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const scope = await accessScope(deps, c)
    const fields = await readJson(c.req.raw, limitsBody, ADMIN_BYTES_MAX)
    const changes = {
      ...(fields.requests_per_minute !== undefined && {
        requestsPerMinute: fields.requests_per_minute,
      }),
      ...(fields.tokens_per_minute !== undefined && { tokensPerMinute: fields.tokens_per_minute }),
      ...(fields.concurrency !== undefined && { concurrency: fields.concurrency }),
      ...(fields.monthly_spend_pusd !== undefined && {
        monthlySpendPusd: fields.monthly_spend_pusd,
      }),
    }
    const row = await setLimits(deps.db, scope, changes)
    if (row === null) throw new EdgeError('not_found', `There is no API key "${scope.keyId}".`)
    await noteChange(deps, c, scope, 'limit.set')
    return c.json(toWire(row))
  }
}

export function showLimits(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    return c.json({ data: (await listLimits(deps.db, tenant.id)).map(toWire) })
  }
}

export function dropLimits(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const scope = await accessScope(deps, c)
    const isRemoved = await removeLimits(deps.db, scope)
    if (!isRemoved) {
      const whose = scope.keyId === null ? 'the tenant' : `the API key "${scope.keyId}"`
      throw new EdgeError('not_found', `No limits of ${whose} are set.`)
    }
    await noteChange(deps, c, scope, 'limit.remove')
    return c.json({ key_id: scope.keyId, removed: true })
  }
}

async function accessScope(deps: Deps, c: EdgeContext): Promise<LimitScope> {
  const tenant = await accessTenant(deps, c)
  const keyId = c.req.param('key') ?? null
  if (keyId === null) requireOperator(await identify(deps, c))
  return { tenantId: tenant.id, keyId }
}

async function noteChange(
  deps: Deps,
  c: EdgeContext,
  { tenantId, keyId }: LimitScope,
  action: string,
): Promise<void> {
  if (keyId === null) deps.authenticator.forgetTenant(tenantId)
  else deps.authenticator.forget(keyId)
  await audit(deps, c, { tenantId, action, subject: keyId ?? tenantId })
}

function toWire(row: LimitRow) {
  return {
    /** null = the tenant's own. */
    key_id: row.scopeId === row.tenantId ? null : row.scopeId,
    requests_per_minute: row.requestsPerMinute,
    tokens_per_minute: row.tokensPerMinute,
    concurrency: row.concurrency,
    monthly_spend_pusd: row.monthlySpendPusd?.toString() ?? null,
    updated_at: row.updatedAt.toISOString(),
  }
}
