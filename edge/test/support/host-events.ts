/** What a host says of an answer, where nothing but its text matters. */
import type { ChunkEvent, EndEvent } from '#protocol'

export const END_EVENT: EndEvent = {
  type: 'end',
  finish_reason: 'stop',
  usage: { prompt_tokens: 1, completion_tokens: 2, cached_prompt_tokens: 0 },
  adapter_source: 'none',
  ttft_us: 1,
  gpu_us: 1,
  queue_us: 0,
  swap_us: 0,
}

export function chunkEvent(text: string, more: Partial<ChunkEvent> = {}): ChunkEvent {
  return { type: 'chunk', choice: 0, text, tokens: 1, finish_reason: null, ...more }
}
