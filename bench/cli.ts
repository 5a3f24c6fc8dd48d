/**
 * `npm run --silent bench -- <name>`: runs one benchmark; with --json its last line is the report.
 */
import { parseArgs } from 'node:util'
import { SHAPES, type ShapeName } from './lib/base-model.ts'
import { runMix } from './mix.ts'
import { runSwap } from './swap.ts'

const USAGE = `usage: npm run --silent bench -- <name> [options]

  mix    N sequences decode at once, each with its own adapter, against one adapter and the peer
         --tenants N (8)  --no-peer
  swap   time from "adapter not in a slot" to "its first row can run"
         --swaps N (200) loads per tier and round

  --shape NAME        demo, 1b, 7b: random weights in Q8_0; default: what npm start serves (demo)
  --rank N            adapter rank, on all seven linear layers (16)
  --rounds N          repetitions; figures are medians (5)
  --threads N         engine threads, 0 = one per core (0)
  --json              the report as one line of JSON`

const EXIT_USAGE = 2

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: 'string', default: 'demo' },
      tenants: { type: 'string', default: '8' },
      swaps: { type: 'string', default: '200' },
      rank: { type: 'string', default: '16' },
      rounds: { type: 'string', default: '5' },
      threads: { type: 'string', default: '0' },
      'no-peer': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return void process.stdout.write(`${USAGE}\n`)
  const shape = SHAPES.find((name): name is ShapeName => name === values.shape)
  if (shape === undefined) throw new RangeError(`--shape must be one of ${SHAPES.join(', ')}`)
  const count = (
    name: 'tenants' | 'swaps' | 'rank' | 'rounds' | 'threads',
    min: number,
  ): number => {
    const value = Number(values[name])
    if (Number.isInteger(value) && value >= min) return value
    throw new RangeError(`--${name} must be an integer of at least ${min}`)
  }
  const common = { shape, rank: count('rank', 1), threads: count('threads', 0) }
  const runs = {
    mix: () =>
      runMix({
        ...common,
        tenants: count('tenants', 1),
        rounds: count('rounds', 1),
        withPeer: !values['no-peer'],
      }),
    swap: () => runSwap({ ...common, swaps: count('swaps', 20), rounds: count('rounds', 1) }),
  }
  const name = positionals[0]
  if (positionals.length !== 1 || !(name === 'mix' || name === 'swap')) {
    throw new RangeError(`name one benchmark: ${Object.keys(runs).join(', ')}`)
  }
  const report = await runs[name]()
  process.stdout.write(`${values.json ? JSON.stringify(report) : toLines(report)}\n`)
}

function toLines(report: object): string {
  return Object.entries(report)
    .map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join('\n')
}

main().catch((error: unknown) => {
  const isUsage = error instanceof RangeError || (error instanceof TypeError && 'code' in error)
  process.stderr.write(isUsage ? `bench: ${error.message}\n\n${USAGE}\n` : `bench: ${error}\n`)
  process.exitCode = isUsage ? EXIT_USAGE : 1
})
