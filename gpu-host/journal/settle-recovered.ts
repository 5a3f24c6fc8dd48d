/**
 * How a request is closed that the last run left open: with what its last progress says.
 */
import { createUsageEvent } from '../telemetry/usage-event.ts'
import type { OpenRequest } from './open-requests.ts'
import type { SettledRecord } from './record.ts'

export function settleRecovered(
  { opened, started, progress }: OpenRequest,
  host: { readonly hostId: string; readonly epoch: number; readonly endedAt: string },
): SettledRecord {
  const [, promptRows = 0, completionTokens = 0, gpuUs = 0] = progress ?? []
  const event = createUsageEvent({
    request: opened.request,
    hostId: host.hostId,
    epoch: host.epoch,
    finish: 'error',
    totals: {
      promptRows,
      cachedPromptTokens: started?.cached_prompt_tokens ?? 0,
      completionTokens,
      gpuUs,
    },
    queueUs: started?.queue_us ?? 0,
    ttftUs: started?.ttft_us ?? null,
    swapUs: started?.swap_us ?? 0,
    adapterBytes: started?.adapter_bytes ?? 0,
    source: started?.source ?? 'none',
    startedAt: opened.at,
    endedAt: host.endedAt,
    origin: 'recovered',
  })
  return { t: 'settled', n: opened.n, code: 'host_restarted', event }
}
