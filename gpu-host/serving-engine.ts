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

/** @param chatTemplate Jinja; null = there is none. */
export function serveNative(
  engine: Engine,
  chatTemplate: string | null = engine.info.chatTemplate,
): ServingEngine {
  const { info, limits } = engine
  const special = { bos: info.bosText ?? '', eos: info.eosText ?? '' }
  const isWritable = (text: string): boolean => writtenText(engine, text) === text
  const renderChat = createChatTemplate(chatTemplate, special, isWritable)
  return {
    kind: 'native',
    baseModel: info.baseModel,
    baseDigest: info.baseDigest,
    contextLength: limits.contextLength,
    createRunner: (parts) => new Scheduler({ ...parts, engine, renderChat }),
    close: () => engine.close(),
  }
}

/** What is seen of a text when the model writes its tokens. */
function writtenText(engine: Engine, text: string): string {
  const tokens = engine.tokenize(text, { addSpecial: false, parseSpecial: true })
  const bytes = Array.from(tokens, (token) => engine.tokenBytes(token))
  return Buffer.concat(bytes).toString()
}
