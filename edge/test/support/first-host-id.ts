import { hashText } from '../../hash-text.ts'
import { rendezvousScore } from '../../pool/rendezvous.ts'

/** Of all scores; a host of any other name is above it once in 10,000 pools. */
const TOP_SHARE = 0.9999
let count = 0

/** An id, new each time, whose host is the tenant's first for the base model among equally busy. */
export function firstHostId(tenantId: string): string {
  for (;;) {
    const hostId = `first_${count++}`
    if (rendezvousScore(hashText(tenantId), hashText(hostId)) > TOP_SHARE * 2 ** 32) return hostId
  }
}
