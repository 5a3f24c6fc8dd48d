/**
 * Whether a host's reply is to the request that was sent. Connections to hosts are kept and used
 * again; where one falls out of step, as after a call that broke off in the wrong moment, whoever
 * asks next reads what somebody else was told. So every call names its request, every reply says
 * which it answers, and one that says another is read by nobody: its connection goes, on Node
 * before it can be used again (node-transport.ts).
 */
import { REQUEST_ID_HEADER } from '#protocol'

export class ForeignReply extends Error {
  override readonly name = 'ForeignReply'

  constructor() {
    super('a reply to another request')
  }
}

/** A reply that names no request is of a host that refused before it knew which, or of no host. */
export function isForeign(answeredId: string | null, requestId: string): boolean {
  return answeredId !== null && answeredId !== requestId
}

/** Throws ForeignReply, and reads nothing of it. */
export async function requireOwn(response: Response, requestId: string): Promise<Response> {
  if (!isForeign(response.headers.get(REQUEST_ID_HEADER), requestId)) return response
  await response.body?.cancel()
  throw new ForeignReply()
}
