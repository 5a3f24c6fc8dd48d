/** A dry run's look-up before a change that is the operator's alone. */
import { type ApiTarget, callEdge } from './api-client.ts'
import { tenantList } from './edge-replies.ts'

/** Throws `unauthorized` for any other key, as the change itself would. */
export async function requireOperator(target: ApiTarget, signal: AbortSignal): Promise<void> {
  await callEdge(target, { method: 'GET', path: '/v1/tenants', signal }, tenantList)
}
