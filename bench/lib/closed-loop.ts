/**
 * A closed-loop load on a scheduler: a fixed number of clients, each of which asks for the next
 * request of a list as soon as its last one has ended. Every reply is compared with its reference.
 */
import { randomUUID } from 'node:crypto'
import type { AdapterSource } from '../../gpu-host/protocol.ts'
import type { Scheduler } from '../../gpu-host/scheduler/scheduler.ts'
import { createRequest } from '../../gpu-host/test/support/test-host.ts'
import type { FleetAdapter } from './adapter-fleet.ts'

export interface Answer {
  /** Where the adapter was when the request arrived. */
  readonly source: AdapterSource
  /** Submitted → first chunk in the client's hands. */
  readonly ttftMs: number
  readonly isRight: boolean
}

export interface LoopResult {
  readonly seconds: number
  readonly answers: readonly Answer[]
}

export interface LoopOptions {
  readonly clients: number
  readonly completionTokens: number
  readonly baseModel: string
}

/** Throws when a request fails: a run with errors measures nothing. */
export async function runClosedLoop(
  scheduler: Scheduler,
  wanted: readonly FleetAdapter[],
  options: LoopOptions,
): Promise<LoopResult> {
  const answers: Answer[] = []
  let next = 0
  const client = async (): Promise<void> => {
    for (let adapter = wanted[next++]; adapter !== undefined; adapter = wanted[next++]) {
      answers.push(await ask(scheduler, adapter, options))
    }
  }
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: options.clients }, client))
  return { seconds: (performance.now() - startedAt) / 1000, answers }
}

async function ask(
  scheduler: Scheduler,
  adapter: FleetAdapter,
  { completionTokens, baseModel }: LoopOptions,
): Promise<Answer> {
  const submittedAt = performance.now()
  const generation = scheduler.submit(
    createRequest({
      request_id: `req_${randomUUID()}`,
      // Every adapter has an owner of its own.
      tenant_id: `ten_${adapter.digest.slice(-16)}`,
      adapter_digest: adapter.digest,
      base_model: baseModel,
      input: { kind: 'tokens', tokens: [...adapter.prompt] },
      max_tokens: completionTokens,
      deadline_ms: null,
      tenant_weight: 1,
      is_whole: false,
      ignore_eos: true,
    }),
  )
  let ttftMs: number | null = null
  let text = ''
  for (let event = await generation.next(); event !== null; event = await generation.next()) {
    if (event.type === 'error') throw new Error(`a request failed: ${event.code}`)
    if (event.type === 'chunk') {
      ttftMs ??= performance.now() - submittedAt
      text += event.text
    }
    if (event.type === 'end') {
      const isRight = text === adapter.text && event.usage.completion_tokens === completionTokens
      return { source: event.adapter_source, ttftMs: ttftMs ?? Number.NaN, isRight }
    }
  }
  throw new Error('a request ended without a last event')
}
