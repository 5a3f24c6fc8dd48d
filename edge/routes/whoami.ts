/** GET /v1/whoami: whose key the caller has, so that a tool need not be told. */
import type { Deps } from '../deps.ts'
import { type EdgeContext, identify } from '../request-context.ts'

export function showCaller(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const identity = await identify(deps, c)
    if (identity.kind === 'operator') return c.json({ tenant: null, key_id: null, scopes: null })
    const { tenantId: id, tenantName: name, keyId, scopes } = identity
    return c.json({ tenant: { id, name }, key_id: keyId, scopes })
  }
}
