/** The one place where the host meets native/: opens it as an Engine. */
import { NativeEngine } from '#native'
import type { HostConfig } from './config.ts'
import type { Engine } from './engine.ts'

/** Rejects with an EngineError whose `code` says what is wrong (no model, bad architecture …). */
export async function openNativeEngine(options: HostConfig['engine']): Promise<Engine> {
  return NativeEngine.open(options)
}
