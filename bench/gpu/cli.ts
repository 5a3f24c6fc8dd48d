/** `scripts/gpu-acceptance <stage>`: see the README beside this file. */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { runChurn } from '../churn.ts'
import { ensureShape } from '../lib/base-model.ts'
import { runMix } from '../mix.ts'
import { runSwap } from '../swap.ts'
import { build, writePieces } from './build.ts'
import { runDecode } from './decode.ts'
import { pack } from './pack.ts'
import { runParity } from './parity.ts'
import { MEASURES, writeReport } from './report.ts'
import { deviceOf, type GpuRun, note, ROOT, saveResult, threadsOf } from './run.ts'

const USAGE = `usage: scripts/gpu-acceptance <stage> [options]

  pack OUT.tar.xz   for a box without Node and network   --pieces DIR a library built earlier
  build             the engine, and ggml's CUDA library; again until it says "built"
  pieces            that library in files of 15 MiB, for \`pack --pieces\`
  weights           the base model with random weights
  parity            device against CPU, per type of weights
  decode            base alone at batch 1 and 8 against the memory's bandwidth
  mix               16 adapters in one batch against one and none
  swap              host RAM and disk to slot, and what it does to others
  churn             80 adapters over 64 slots, every reply checked
  report            all results as one page
  all               build, weights, every measurement, report

  --device cuda|cpu   (cuda); cpu runs the same graph, to try the stages out
  --shape 7b|tiny     (7b) Llama-2-7B in F16, or a shape that takes seconds
  --out DIR           (.cache/gpu) what the stages leave
  --minutes N         (9) a stage is cut off then
  --rounds N          (5)
  --architecture NN   (90) of the GPU, for build`

const EXIT_USAGE = 2
const EXIT_TIME = 3
const RANK = 16
const TENANTS = 16
const TOKENS = 64
/** Left for what follows the compiler. */
const BUILD_SLACK_S = 30
const FULL = { adapters: 80, slots: 64, clients: 16, requests: 640, swaps: 200 }
const SMALL = { adapters: 24, slots: 16, clients: 8, requests: 120, swaps: 20 }

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      device: { type: 'string', default: 'cuda' },
      shape: { type: 'string', default: '7b' },
      out: { type: 'string', default: join(ROOT, '.cache', 'gpu') },
      minutes: { type: 'string', default: '9' },
      rounds: { type: 'string', default: '5' },
      architecture: { type: 'string', default: '90' },
      pieces: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const [stage, archive] = positionals
  if (values.help) return void process.stdout.write(`${USAGE}\n`)
  if (stage === 'pack') {
    if (archive === undefined) throw new RangeError('pack needs the name of the archive')
    return pack(archive, values.pieces ?? null)
  }
  const { device, shape } = values
  if (device !== 'cuda' && device !== 'cpu') throw new RangeError('--device is cuda or cpu')
  if (shape !== '7b' && shape !== 'tiny') throw new RangeError('--shape is 7b or tiny')
  const run: GpuRun = {
    device,
    shape: shape === '7b' ? '7b-f16' : 'tiny-f16',
    out: resolve(values.out),
    rounds: toCount(values.rounds, '--rounds'),
  }
  const minutes = toCount(values.minutes, '--minutes')
  const stages = toStages(run, { architecture: values.architecture, minutes })
  const names = stage === 'all' ? ['build', 'weights', ...MEASURES, 'report'] : [stage ?? '']
  for (const name of names) {
    const work = stages[name]
    if (work === undefined) throw new RangeError(`there is no stage "${name}"`)
    await within(minutes, name, work)
  }
}

function toCount(text: string, flag: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1) return value
  throw new RangeError(`${flag} must be a whole number of at least 1`)
}

interface StageOptions {
  readonly architecture: string
  readonly minutes: number
}

function toStages(run: GpuRun, { architecture, minutes }: StageOptions) {
  const sizes = run.shape === '7b-f16' ? FULL : SMALL
  const { device, shape, rounds } = run
  const common = { shape, rank: RANK, rounds, threads: threadsOf(run), on: deviceOf(run) }
  const measure = (name: string, work: () => Promise<object>) => async () => {
    saveResult(run, name, await work())
    note(`${name}: done, ${join(run.out, `${name}.json`)}`)
  }
  const stages: Record<string, () => Promise<void> | void> = {
    build: async () => {
      const secondsMax = minutes * 60 - BUILD_SLACK_S
      const isDone = await build({ device, architecture, secondsMax })
      note(isDone ? 'built' : 'not done yet: run `build` again')
      if (!isDone) process.exit(EXIT_TIME)
    },
    pieces: () => writePieces(run.out),
    weights: async () => void (await ensureShape(shape)),
    parity: measure('parity', () => runParity(run)),
    decode: measure('decode', () => runDecode(run)),
    mix: measure('mix', () => runMix({ ...common, tenants: TENANTS, tokens: TOKENS, peers: [] })),
    swap: measure('swap', () => runSwap({ ...common, swaps: sizes.swaps })),
    churn: measure('churn', () => runChurn({ ...common, ...sizes, rounds: 1, popularity: 'zipf' })),
    report: () => writeReport(run),
  }
  return stages
}

/** The box cuts commands off without a word; this one says which stage took too long. */
async function within(minutes: number, name: string, work: () => Promise<void> | void) {
  const timer = setTimeout(() => {
    note(`${name} was cut off after ${minutes} minutes; its result is not there`)
    process.exit(EXIT_TIME)
  }, minutes * 60_000)
  try {
    await work()
  } finally {
    clearTimeout(timer)
  }
}

main().catch((error: unknown) => {
  const isUsage = error instanceof RangeError || (error instanceof TypeError && 'code' in error)
  const text = error instanceof Error ? error.message : String(error)
  process.stderr.write(
    isUsage ? `gpu-acceptance: ${text}\n\n${USAGE}\n` : `gpu-acceptance: ${text}\n`,
  )
  process.exitCode = isUsage ? EXIT_USAGE : 1
})
