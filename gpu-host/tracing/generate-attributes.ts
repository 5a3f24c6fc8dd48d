/**
 * What the span of a generation says, at the edge as at the host: OpenTelemetry's conventions for
 * generative AI, and what they have no word for under `nozzle.`. Numbers, ids and names alone.
 */
import type { EndEvent, GenerateRequest } from '../protocol.ts'
import type { SpanAttributes } from './otlp.ts'

/** `chat support`, as the conventions name spans. */
export function generateSpanName(request: GenerateRequest): string {
  return `${operationOf(request)} ${request.model}`
}

function operationOf({ input }: Pick<GenerateRequest, 'input'>): string {
  return input.kind === 'chat' ? 'chat' : 'text_completion'
}

export function requestAttributes(request: GenerateRequest): SpanAttributes {
  const { sampling } = request
  return {
    'gen_ai.operation.name': operationOf(request),
    'gen_ai.provider.name': 'nozzle',
    'gen_ai.request.model': request.model,
    'gen_ai.request.max_tokens': request.max_tokens ?? undefined,
    'gen_ai.request.temperature': sampling.temperature,
    'gen_ai.request.top_p': sampling.top_p,
    'gen_ai.request.choice.count': request.n === 1 ? undefined : request.n,
    'gen_ai.request.stream': !request.is_whole,
    'gen_ai.response.id': request.request_id,
    'nozzle.request_id': request.request_id,
    'nozzle.tenant_id': request.tenant_id,
    'nozzle.attempt': request.attempt,
    'nozzle.base_model': request.base_model,
    'nozzle.adapter_digest': request.adapter_digest ?? undefined,
  }
}

export function endAttributes(end: EndEvent): SpanAttributes {
  const { usage } = end
  return {
    'gen_ai.response.finish_reasons': [end.finish_reason],
    'gen_ai.usage.input_tokens': usage.prompt_tokens,
    'gen_ai.usage.output_tokens': usage.completion_tokens,
    'gen_ai.usage.cache_read.input_tokens': usage.cached_prompt_tokens,
    'nozzle.adapter_source': end.adapter_source,
    'nozzle.queue_seconds': end.queue_us / 1e6,
    'nozzle.swap_seconds': end.swap_us / 1e6,
    'nozzle.ttft_seconds': end.ttft_us / 1e6,
    'nozzle.gpu_seconds': end.gpu_us / 1e6,
  }
}
