/**
 * Many adapters as packs in a disk tier's directory, each with a prompt of its own and the text
 * that it alone gives for it: what every reply of a run is compared with. The references come
 * straight from the engine, past cache and scheduler.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { writePack } from '../../gpu-host/adapters/pack-file.ts'
import type { NativeEngine } from '../../native/index.ts'
import { Random } from '../../native/test/support/random.ts'
import { createBenchAdapter } from './base-model.ts'
import { complete, findReference } from './greedy-reference.ts'

export interface FleetAdapter {
  readonly digest: string
  readonly prompt: readonly number[]
  /** Greedy completion of the prompt with this adapter alone in the engine. */
  readonly text: string
}

export interface Fleet {
  readonly adapters: readonly FleetAdapter[]
  readonly payloadBytes: number
  /** Share of sampled prompts that another adapter completes differently. */
  readonly detectable: number
}

export interface FleetOptions {
  readonly directory: string
  readonly count: number
  readonly rank: number
  readonly promptTokens: number
  readonly completionTokens: number
}

const OWN_SLOT = 1
const OTHER_SLOT = 2
/** One prompt in so many is also given to another adapter. */
const DETECT_ONE_IN = 20

export async function createFleet(engine: NativeEngine, options: FleetOptions): Promise<Fleet> {
  mkdirSync(options.directory, { recursive: true })
  const adapters: FleetAdapter[] = []
  let payloadBytes = 0
  let compared = 0
  let differing = 0
  for (let index = 0; index < options.count; index++) {
    const adapter = createBenchAdapter(engine, index + 1, options.rank)
    const { digest } = adapter.manifest
    payloadBytes = adapter.payload.length
    await writePack(join(options.directory, `${digest.replace('sha256:', '')}.nzpack`), adapter)
    await engine.loadSlot(OWN_SLOT, adapter)
    const reference = await findReference(engine, OWN_SLOT, {
      ...options,
      random: new Random('prompts', index),
    })
    adapters.push({ digest, ...reference })
    if (index % DETECT_ONE_IN !== 0) continue
    await engine.loadSlot(OTHER_SLOT, createBenchAdapter(engine, index + 2, options.rank))
    const other = await complete(engine, OTHER_SLOT, reference.prompt, options.completionTokens)
    compared += 1
    if (other.text !== reference.text) differing += 1
  }
  for (const slot of [OWN_SLOT, OTHER_SLOT]) engine.clearSlot(slot)
  return { adapters, payloadBytes, detectable: differing / compared }
}
