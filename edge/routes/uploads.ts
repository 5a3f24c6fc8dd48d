/**
 * A deploy whose files go straight to the pool's store: first the client says what it has and
 * learns where to put it, then, when all of it is there, that it is done. Both may be said as often
 * as one likes. What a tenant has deployed before need not be sent again; what another has, must:
 * a hash alone proves nothing.
 */
import { z } from 'zod'
import { hasAdapter } from '#db/queries/adapter-versions.ts'
import { adapterDigest, uploadFiles } from '#protocol'
import type { Deps } from '../deps.ts'
import { UPLOAD_FILES_BYTES_MAX } from '../limits.ts'
import { readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { openDeploy, recordDeploy } from './models.ts'

export const planBody = z.strictObject({
  files: uploadFiles,
  /** Whether to send them though this tenant has sent them before: the store has lost them. */
  resend: z.boolean().default(false),
})
export const completeBody = z.strictObject({
  files: uploadFiles,
  /** As the plan told it. */
  digest: adapterDigest,
})

/** POST …/models/:model/uploads */
export function planUpload(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const { tenant, call } = await openDeploy(deps, c)
    const { files, resend } = await readJson(c.req.raw, planBody, UPLOAD_FILES_BYTES_MAX)
    const plan = await deps.uploads.plan(files, call)
    if (plan.mode === 'through_edge' || resend) return c.json(plan)
    const { digest } = plan
    const isKnown = await hasAdapter(deps.db, { tenantId: tenant.id, digest })
    const bytes = files.config.bytes + files.weights.bytes
    return c.json(isKnown ? { ...plan, bytes_staged: bytes, parts: [] } : plan)
  }
}

/** POST …/models/:model/uploads/complete */
export function completeUpload(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const target = await openDeploy(deps, c)
    const { files, digest } = await readJson(c.req.raw, completeBody, UPLOAD_FILES_BYTES_MAX)
    const isKnown = await hasAdapter(deps.db, { tenantId: target.tenant.id, digest })
    const receipt = await deps.uploads.complete(files, isKnown ? digest : null, target.call)
    return recordDeploy(deps, c, { ...target, receipt })
  }
}
