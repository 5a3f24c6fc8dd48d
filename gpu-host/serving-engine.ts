/**
 * What a host serves with: an engine of its own, stepped by the scheduler, or a server that it
 * drives (vllm/). Everything else of a host is the same for both.
 */
import type { Engine } from './engine.ts'
import type { Heartbeat } from './protocol.ts'
import type { RequestRunner } from './scheduler/request-runner.ts'
import { Scheduler } from './scheduler/scheduler.ts'
import type { RunnerParts } from './scheduler/scheduler-options.ts'
import { createChatTemplate } from './text/chat-template.ts'

export interface ServingEngine {
  readonly kind: Heartbeat['engine']
  readonly baseModel: string
  /** `sha256:<hex>` */
  readonly baseDigest: string
  /** Tokens of one sequence, prompt and completion together. */
  readonly contextLength: number
  createRunner(parts: RunnerParts): RequestRunner
  /** After the runner has closed. */
  close(): Promise<void>
}

export function serveNative(engine: Engine): ServingEngine {
  const { info, limits } = engine
  const renderChat = createChatTemplate(info.chatTemplate, {
    bos: info.bosText ?? '',
    eos: info.eosText ?? '',
  })
  return {
    kind: 'native',
    baseModel: info.baseModel,
    baseDigest: info.baseDigest,
    contextLength: limits.contextLength,
    createRunner: (parts) => new Scheduler({ ...parts, engine, renderChat }),
    close: () => engine.close(),
  }
}
