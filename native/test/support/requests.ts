/**
 * Runs requests through the engine as a scheduler would: prompts in chunks, then one token a step,
 * greedily, all requests that are under way in the same step. Keeps every row's whole log
 * probabilities, so that two runs can be compared to the bit.
 */
import type { NativeEngine, NativeSamplingOptions } from '../../index.ts'
import { toLogprobRow } from './logprobs.ts'

export interface TestRequest {
  readonly prompt: readonly number[]
  readonly slot: number
  /** Tokens to draw, the one after the prompt included. */
  readonly drawCount: number
  /** Step at which it joins the others. */
  readonly startStep?: number
  /** Prompt rows of one step; absent = all. */
  readonly chunkRows?: number
  /** `newest`: as a scheduler asks, only where a token is needed; absent = after every row. */
  readonly outputs?: 'all' | 'newest'
}

export interface Trace {
  /** Drawn tokens. */
  readonly tokens: number[]
  /** Log probabilities after each token that asked for outputs: prompt, drawn ones but the last. */
  readonly rows: Float32Array[]
  /** The engine found logits that are not finite; the request ended there. */
  isNonFinite: boolean
}

interface Progress {
  readonly request: TestRequest
  readonly trace: Trace
  /** Prompt and drawn tokens. */
  readonly tokens: number[]
  position: number
}

export const GREEDY: NativeSamplingOptions = {
  temperature: 0,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
  seed: 0,
  logit_bias: {},
  grammar: null,
}

export async function runTogether(
  engine: NativeEngine,
  requests: readonly TestRequest[],
): Promise<Trace[]> {
  const all = requests.map(
    (request): Progress => ({
      request,
      trace: { tokens: [], rows: [], isNonFinite: false },
      tokens: [...request.prompt],
      position: 0,
    }),
  )
  all.forEach(({ request }, sequence) => {
    engine.openSequence(sequence, {
      sampling: GREEDY,
      topLogprobs: engine.info.vocabularySize,
      promptTokens: Int32Array.from(request.prompt),
    })
  })
  for (let step = 0; all.some((progress) => !isDone(progress)); step++) {
    await runStep(engine, all, step)
  }
  all.forEach((_, sequence) => {
    engine.closeSequence(sequence)
  })
  return all.map((progress) => progress.trace)
}

function isDone({ request, trace }: Progress): boolean {
  return trace.isNonFinite || trace.tokens.length === request.drawCount
}

interface Row {
  readonly progress: Progress
  readonly token: number
  readonly position: number
  readonly sequence: number
  readonly isNewest: boolean
}

async function runStep(
  engine: NativeEngine,
  all: readonly Progress[],
  step: number,
): Promise<void> {
  const rows = all.flatMap((progress, sequence) => takeRows(progress, sequence, step))
  if (rows.length === 0) return
  const outputRows = rows.filter(
    ({ progress, isNewest }) => isNewest || progress.request.outputs !== 'newest',
  )
  const { sampled } = await engine.step({
    tokens: Int32Array.from(rows, (row) => row.token),
    positions: Int32Array.from(rows, (row) => row.position),
    sequences: Int32Array.from(rows, (row) => row.sequence),
    slots: Int32Array.from(rows, (row) => row.progress.request.slot),
    outputs: Uint8Array.from(rows, (row) => (outputRows.includes(row) ? 1 : 0)),
  })
  if (sampled.length !== outputRows.length) throw new Error('one entry per output row is due')
  for (const [index, { progress, isNewest }] of outputRows.entries()) {
    const { trace } = progress
    const result = sampled[index]
    if (!result || result.isNonFinite || trace.isNonFinite) {
      trace.isNonFinite = true
      continue
    }
    trace.rows.push(toLogprobRow(result.top, engine.info.vocabularySize))
    if (!isNewest) continue
    progress.tokens.push(result.token)
    trace.tokens.push(result.token)
  }
}

/** The rows a request puts into this step: a piece of its prompt, or the token drawn last. */
function takeRows(progress: Progress, sequence: number, step: number): Row[] {
  const { request, tokens, position: begin } = progress
  if (isDone(progress) || step < (request.startStep ?? 0)) return []
  progress.position = Math.min(tokens.length, begin + (request.chunkRows ?? tokens.length))
  return tokens.slice(begin, progress.position).map((token, index) => {
    const position = begin + index
    return { progress, token, position, sequence, isNewest: position === tokens.length - 1 }
  })
}
