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
import { GREEDY } from '../../native/test/support/requests.ts'
import { createBenchAdapter } from './base-model.ts'

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

/**
 * Least log probability between the best token and the next, at every token of a reference: rows
 * beside others round differently, and a tie would count as a wrong adapter.
 */
const MARGIN_MIN = 0.02
const PROMPTS_MAX = 50
const OWN_SLOT = 1
const OTHER_SLOT = 2
/** One prompt in so many is also given to another adapter. */
const DETECT_ONE_IN = 20
/** Of the tokenizer: below are specials. */
const FIRST_TEXT_TOKEN = 3

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
    const reference = await findReference(engine, index, options)
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

/** The first of the adapter's random prompts that it completes without a near tie. */
async function findReference(engine: NativeEngine, index: number, options: FleetOptions) {
  const random = new Random('prompts', index)
  const words = engine.info.vocabularySize - FIRST_TEXT_TOKEN
  for (let attempt = 0; attempt < PROMPTS_MAX; attempt++) {
    const prompt = Array.from(
      { length: options.promptTokens },
      () => FIRST_TEXT_TOKEN + random.integer(words),
    )
    const { text, margin } = await complete(engine, OWN_SLOT, prompt, options.completionTokens)
    if (margin >= MARGIN_MIN) return { prompt, text }
  }
  throw new Error(`adapter ${index}: every prompt met a near tie`)
}

/** Greedy completion alone in the engine, and the least margin of its tokens. */
async function complete(
  engine: NativeEngine,
  slot: number,
  prompt: readonly number[],
  count: number,
): Promise<{ readonly text: string; readonly margin: number }> {
  engine.openSequence(0, {
    sampling: GREEDY,
    topLogprobs: 2,
    promptTokens: Int32Array.from(prompt),
  })
  const pieces: Uint8Array[] = []
  let margin = Number.POSITIVE_INFINITY
  let tokens: readonly number[] = prompt
  let position = 0
  while (pieces.length < count) {
    const rows = tokens.length
    const { sampled } = await engine.step({
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from({ length: rows }, (_, row) => position + row),
      sequences: new Int32Array(rows),
      slots: new Int32Array(rows).fill(slot),
      outputs: Uint8Array.from({ length: rows }, (_, row) => (row === rows - 1 ? 1 : 0)),
    })
    const [drawn] = sampled
    const [best, next] = drawn?.top ?? []
    if (drawn === undefined || best === undefined || next === undefined) {
      throw new Error('the engine drew no token')
    }
    margin = Math.min(margin, best.logprob - next.logprob)
    pieces.push(engine.tokenBytes(drawn.token))
    position += rows
    tokens = [drawn.token]
  }
  engine.closeSequence(0)
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(pieces))
  return { text, margin }
}
