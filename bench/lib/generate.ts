/** N requests through the engine at once, greedily: prompts in one step, then a token a step. */
import type { NativeEngine } from '../../native/index.ts'
import { GREEDY } from '../../native/test/support/requests.ts'

export interface Generation {
  /** Tokens of each request, the one after its prompt first. */
  readonly completions: number[][]
  readonly prefillMs: number
  /** All steps after the first. */
  readonly decodeMs: number
}

/**
 * Pages for `tokens` tokens of a sequence, beside those of the sequences before it: as densely as a
 * host's pool gives them out, since a GPU's attention looks over all cells up to the last in use.
 */
export function densePages({ limits }: NativeEngine, sequence: number, tokens: number): Int32Array {
  const count = Math.ceil(tokens / limits.pageCells)
  return Int32Array.from({ length: count }, (_, index) => sequence * count + index)
}

/** Sequence i has prompt i and slot i. Prompts together fit one step. */
export async function generateTogether(
  engine: NativeEngine,
  prompts: readonly (readonly number[])[],
  slots: readonly number[],
  completionTokens: number,
): Promise<Generation> {
  const count = prompts.length
  const tokensMax = Math.max(...prompts.map((prompt) => prompt.length)) + completionTokens
  for (let sequence = 0; sequence < count; sequence++) {
    engine.openSequence(sequence, {
      sampling: GREEDY,
      topLogprobs: -1,
      promptTokens: new Int32Array(0),
      pages: densePages(engine, sequence, tokensMax),
    })
  }
  const startedAt = performance.now()
  const { sampled } = await engine.step(promptRows(prompts, slots))
  const prefilledAt = performance.now()
  let next = Int32Array.from(sampled, (drawn) => drawn.token)
  const completions = Array.from(next, (token) => [token])
  const sequences = Int32Array.from({ length: count }, (_, index) => index)
  const positions = Int32Array.from(prompts, (prompt) => prompt.length)
  const outputs = new Uint8Array(count).fill(1)
  const slotOf = Int32Array.from(slots)
  for (let token = 1; token < completionTokens; token++) {
    const step = await engine.step({ tokens: next, positions, sequences, slots: slotOf, outputs })
    next = Int32Array.from(step.sampled, (drawn) => drawn.token)
    for (let index = 0; index < count; index++) {
      completions[index]?.push(next[index] ?? -1)
      positions[index] = (positions[index] ?? 0) + 1
    }
  }
  return {
    completions,
    prefillMs: prefilledAt - startedAt,
    decodeMs: performance.now() - prefilledAt,
  }
}

function promptRows(prompts: readonly (readonly number[])[], slots: readonly number[]) {
  const rows = prompts.flatMap((prompt, sequence) =>
    prompt.map((token, position) => ({
      ...{ token, position, sequence, slot: slots[sequence] ?? 0 },
      output: position === prompt.length - 1 ? 1 : 0,
    })),
  )
  return {
    tokens: Int32Array.from(rows, (row) => row.token),
    positions: Int32Array.from(rows, (row) => row.position),
    sequences: Int32Array.from(rows, (row) => row.sequence),
    slots: Int32Array.from(rows, (row) => row.slot),
    outputs: Uint8Array.from(rows, (row) => row.output),
  }
}
