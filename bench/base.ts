/**
 * `base`: the engine without adapters against llama.cpp's own llama-batched-bench, of the release
 * whose libraries both run: decoding in batches, and the prefill of one prompt. Turn by turn, in
 * one run.
 */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { NativeEngine } from '../native/index.ts'
import { ensureShape, openBenchEngine, type ShapeName } from './lib/base-model.ts'
import { generateTogether } from './lib/generate.ts'
import { median, significant } from './lib/statistics.ts'
import { type BuiltTool, ensureLlamaCppTool, LLAMA_RELEASE } from './peers/llama-cpp-tools.ts'
import { SETTLE_MS } from './peers/protocol.ts'

export interface BaseOptions {
  readonly shape: ShapeName
  readonly rounds: number
  /** Decoding steps of each batch. */
  readonly tokens: number
  /** 0 = one per core. */
  readonly threads: number
}

/** Sequences that decode together. */
const BATCHES = [1, 8, 16] as const
/** Before decoding; 16 of them fit one step of 512 rows. */
const PROMPT_TOKENS = 32
const PREFILL_TOKENS = 512

interface Case {
  readonly name: string
  readonly sequences: number
  readonly promptTokens: number
  readonly steps: number
  readonly measure: 'prefill' | 'decode'
}

/** Tokens per second of each case. */
interface Round {
  readonly ours: Record<string, number>
  readonly theirs: Record<string, number>
}

const batchedBenchLine = z.object({ speed_pp: z.number(), speed_tg: z.number() })

/** Fields of the report are explained in this folder's README. */
export async function runBase(options: BaseOptions) {
  const { shape, rounds } = options
  const threads = options.threads || availableParallelism()
  const tool = ensureLlamaCppTool('llama-batched-bench')
  const modelPath = await ensureShape(shape)
  const sequences = Math.max(...BATCHES)
  const engine = await openBenchEngine(modelPath, { slots: 1, rank: 1, sequences, threads })
  try {
    const cases = listCases(options.tokens)
    const measured: Round[] = []
    for (let round = 0; round <= rounds; round++) {
      const figures: Round = { ours: {}, theirs: {} }
      for (const one of cases) {
        const ours = async () => {
          figures.ours[one.name] = await measureOurs(engine, one)
        }
        const theirs = async () => {
          figures.theirs[one.name] = measureTheirs(tool, modelPath, threads, one)
        }
        for (const run of round % 2 === 0 ? [ours, theirs] : [theirs, ours]) {
          await sleep(SETTLE_MS)
          await run()
        }
      }
      process.stderr.write(`base: round ${round}: ${JSON.stringify(figures)}\n`)
      if (round > 0) measured.push(figures)
    }
    const device = engine.info.device
    return { shape, threads, device, rounds, tokens: options.tokens, ...toReport(measured) }
  } finally {
    await engine.close()
  }
}

function listCases(steps: number): Case[] {
  const prefill = { name: 'prefill', sequences: 1, promptTokens: PREFILL_TOKENS, steps: 1 }
  return [
    { ...prefill, measure: 'prefill' },
    ...BATCHES.map((sequences): Case => {
      const work = { sequences, promptTokens: PROMPT_TOKENS, steps }
      return { name: decodeName(sequences), ...work, measure: 'decode' }
    }),
  ]
}

function decodeName(sequences: number): string {
  return `decode_${sequences}`
}

async function measureOurs(engine: NativeEngine, one: Case): Promise<number> {
  const { sequences, promptTokens, steps, measure } = one
  const vocabulary = engine.info.vocabularySize
  const prompts = Array.from({ length: sequences }, (_, sequence) =>
    Array.from({ length: promptTokens }, (_, i) => (300 + sequence * 31 + i * 7) % vocabulary),
  )
  // The token after the prompt comes out of the prefill; each further one is a decoding step.
  const slots = prompts.map(() => 0)
  const tokens = measure === 'prefill' ? 1 : steps + 1
  const { prefillMs, decodeMs } = await generateTogether(engine, prompts, slots, tokens)
  const [count, ms] =
    measure === 'prefill' ? [promptTokens, prefillMs] : [sequences * steps, decodeMs]
  return (1000 * count) / ms
}

/** A process of its own, which warms up before it measures. */
function measureTheirs(tool: BuiltTool, modelPath: string, threads: number, one: Case): number {
  const { sequences, promptTokens, steps, measure } = one
  const args = [
    ...['--model', modelPath, '--output-format', 'jsonl'],
    ...['--threads', String(threads), '--threads-batch', String(threads)],
    ...['-npp', String(promptTokens), '-ntg', String(steps), '-npl', String(sequences)],
    ...['--ctx-size', String(Math.max(512, sequences * (promptTokens + steps)))],
    ...['--batch-size', '512', '--ubatch-size', '512'],
  ]
  const { stdout, stderr, status } = spawnSync(tool.path, args, {
    cwd: tool.cwd,
    encoding: 'utf8',
  })
  const line = `${stdout}\n${stderr}`.split('\n').find((text) => text.startsWith('{'))
  if (status !== 0 || line === undefined) {
    throw new Error(`llama-batched-bench failed:\n${stderr.slice(-2000)}`)
  }
  const { speed_pp, speed_tg } = batchedBenchLine.parse(JSON.parse(line))
  return measure === 'prefill' ? speed_pp : speed_tg
}

/** Speeds are medians over rounds; ratios are medians of each round's own ratio. */
function toReport(rounds: readonly Round[]) {
  const of = (value: (round: Round) => number | undefined): number =>
    significant(median(rounds.map((round) => value(round) ?? Number.NaN)))
  const ratio = (name: string): number =>
    of(({ ours, theirs }) => (ours[name] ?? Number.NaN) / (theirs[name] ?? Number.NaN))
  const perBatch = (value: (name: string) => number): Record<string, number> =>
    Object.fromEntries(BATCHES.map((batch) => [batch, value(decodeName(batch))]))
  return {
    peer: `llama-batched-bench ${LLAMA_RELEASE}`,
    prompt_tokens: PROMPT_TOKENS,
    prefill_tokens: PREFILL_TOKENS,
    decode_tok_s: perBatch((name) => of(({ ours }) => ours[name])),
    peer_decode_tok_s: perBatch((name) => of(({ theirs }) => theirs[name])),
    decode_ratio: perBatch(ratio),
    prefill_tok_s: of(({ ours }) => ours.prefill),
    peer_prefill_tok_s: of(({ theirs }) => theirs.prefill),
    prefill_ratio: ratio('prefill'),
  }
}
