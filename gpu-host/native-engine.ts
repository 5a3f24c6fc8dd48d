/** The one place where the host meets native/: opens it as an Engine. */
import { NativeEngine } from '#native'
import type { HostConfig } from './config.ts'
import type { Engine } from './engine.ts'

const MIB = 1024 * 1024

export interface OpenedEngine {
  readonly engine: Engine
  /** One line: the device, and what of its memory went where. */
  readonly summary: string
}

/**
 * Rejects with an EngineError whose `code` says what is wrong (no model, bad architecture, memory
 * that does not suffice …).
 */
export async function openNativeEngine(options: HostConfig['engine']): Promise<OpenedEngine> {
  const engine = await NativeEngine.open(options)
  const { device, memory } = engine.info
  const { pageCount, pageCells } = engine.limits
  const parts = [
    ['weights', memory.weights],
    [`${options.slotCount} slots`, memory.slots],
    [`KV of ${pageCount * pageCells} tokens`, memory.kv],
    ['workspace', memory.workspace],
    ['reserve', memory.reserve],
  ] as const
  const plan = parts.map(([name, bytes]) => `${name} ${toMib(bytes)}`).join(', ')
  return { engine, summary: `${device}; of ${toMib(memory.available)} free: ${plan}` }
}

function toMib(bytes: number): string {
  return `${Math.ceil(bytes / MIB)} MiB`
}
