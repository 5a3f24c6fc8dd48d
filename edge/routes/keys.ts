/** A tenant's API keys: made (the secret is shown once), listed, revoked. */
import { z } from 'zod'
import { type ApiKey, insertApiKey, listApiKeys, revokeApiKey } from '#db/queries/api-keys.ts'
import { createApiKey, parseApiKey } from '../auth/api-key.ts'
import { SCOPES } from '../auth/authenticate.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { parseJson, parseValue, readBytes } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessTenant, audit } from '../tenant-access.ts'

export const keyBody = z.object({
  name: z.string().min(1).max(100).nullish(),
  scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length).nullish(),
})

export function addKey(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const bytes = await readBytes(c.req.raw, ADMIN_BYTES_MAX)
    const wish = parseValue(keyBody, bytes.length === 0 ? {} : parseJson(bytes))
    const scopes = withinOwn(c, [...new Set(wish.scopes ?? SCOPES)])
    const key = await createApiKey()
    const parsed = parseApiKey(key)
    if (parsed === null) throw new Error('a new key does not parse')
    const row = await insertApiKey(deps.db, {
      id: parsed.id,
      tenantId: tenant.id,
      keyHash: await deps.hasher.hash(key),
      start: parsed.start,
      name: wish.name ?? null,
      scopes,
    })
    await audit(deps, c, { tenantId: tenant.id, action: 'key.create', subject: row.id })
    const { id, name, createdAt } = row
    return c.json({ id, key, name, scopes: row.scopes, created_at: createdAt.toISOString() }, 201)
  }
}

export function showKeys(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    return c.json({ data: (await listApiKeys(deps.db, tenant.id)).map(toWire) })
  }
}

/** This edge refuses the key at once, all others within KEY_TTL_MS. */
export function dropKey(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const id = c.req.param('key') ?? ''
    const row = await revokeApiKey(deps.db, { tenantId: tenant.id, id })
    if (row === null) throw new EdgeError('not_found', `There is no API key "${id}".`)
    deps.authenticator.forget(id)
    await audit(deps, c, { tenantId: tenant.id, action: 'key.revoke', subject: id })
    return c.json({ id, revoked_at: row.revokedAt?.toISOString() ?? null })
  }
}

/** A key cannot make one that may do more than itself. */
function withinOwn<T extends string>(c: EdgeContext, scopes: T[]): T[] {
  const identity = c.get('identity')
  const missing = scopes.find(
    (scope) => identity?.kind === 'tenant' && !identity.scopes.includes(scope),
  )
  if (missing === undefined) return scopes
  throw new EdgeError('permission_denied', `This API key cannot give the scope "${missing}".`)
}

function toWire({ id, start, name, scopes, createdAt, revokedAt }: ApiKey) {
  return {
    id,
    start,
    name,
    scopes,
    created_at: createdAt.toISOString(),
    revoked_at: revokedAt?.toISOString() ?? null,
  }
}
