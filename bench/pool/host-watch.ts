/**
 * Preloaded into a host process of the pool benches: says over IPC when an adapter's pack is read
 * from the store, and when one is copied into a slot. No metric counts them one by one.
 */
import { z } from 'zod'
import { DirectoryStore } from '../../gpu-host/adapters/store-tier.ts'
import { NativeEngine } from '../../native/index.ts'

/** Set in a host that is watched. */
const VARIABLE = 'NOZZLE_BENCH_WATCH'
export const WATCH_ENVIRONMENT = { [VARIABLE]: '1' }

export const tierMessage = z.object({ type: z.literal('tier'), did: z.enum(['fetch', 'load']) })

function say(did: z.infer<typeof tierMessage>['did']): void {
  if (process.connected) process.send?.({ type: 'tier', did })
}

if (process.env[VARIABLE] !== undefined) {
  const { get } = DirectoryStore.prototype
  DirectoryStore.prototype.get = function watchedGet(digest, signal) {
    say('fetch')
    return get.call(this, digest, signal)
  }

  const { loadSlot } = NativeEngine.prototype
  NativeEngine.prototype.loadSlot = function watchedLoad(slot, image) {
    say('load')
    return loadSlot.call(this, slot, image)
  }
}
