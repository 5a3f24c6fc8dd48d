/** All stages' results as one JSON and one page, each target beside what was measured. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { type GpuRun, loadResult, note, ROOT } from './run.ts'

export const MEASURES = ['parity', 'decode', 'mix', 'swap', 'churn'] as const

interface Target {
  readonly what: string
  readonly goal: string
  readonly value: number | boolean | null
  readonly isMet: boolean
}

// What a stage measured is read by path: a stage that did not run leaves null, never a guess.
function at(results: Results, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, key) => (value as Record<string, unknown> | null)?.[key], results)
}

type Results = Readonly<Record<string, Record<string, unknown> | null>>

function target(
  results: Results,
  what: string,
  path: string,
  goal: string,
  isMet: (value: number) => boolean,
): Target {
  const value = at(results, path)
  const number = typeof value === 'number' ? value : null
  return { what, goal, value: number, isMet: number !== null && isMet(number) }
}

function toTargets(results: Results): Target[] {
  const types = (at(results, 'parity.types') ?? {}) as Record<string, { holds: boolean }>
  const parity = Object.entries(types).map(
    ([type, { holds }]): Target => ({
      what: `parity with the CPU, ${type}`,
      goal: 'within its bound',
      value: holds,
      isMet: holds,
    }),
  )
  const least = (floor: number) => (value: number) => value >= floor
  const most = (ceiling: number) => (value: number) => value <= ceiling
  return [
    ...parity,
    target(results, 'RAM → slot, p50 ms', 'swap.ram_ms.p50', '≤ 5', most(5)),
    target(results, 'RAM → slot, p99 ms', 'swap.ram_ms.p99', '≤ 10', most(10)),
    target(results, '16 adapters ÷ base', 'mix.ratio_base', '≥ 0.90', least(0.9)),
    target(
      results,
      'decode at batch 1 ÷ bandwidth floor',
      'decode.batches.0.share_of_floor',
      '≥ 0.70',
      least(0.7),
    ),
    target(
      results,
      'decode at batch 8 ÷ bandwidth floor',
      'decode.batches.1.share_of_floor',
      '≥ 0.70',
      least(0.7),
    ),
    target(results, 'slots resident', 'churn.slots', '64', least(64)),
    target(results, 'replies of a wrong adapter', 'churn.wrong_adapter', '0', most(0)),
  ]
}

/** Writes report.json and report.md to the run's folder; of a GPU also to bench/results/. */
export function writeReport(run: GpuRun): void {
  const results = Object.fromEntries(MEASURES.map((stage) => [stage, loadResult(run, stage)]))
  const targets = toTargets(results)
  const device = String(at(results, 'decode.device') ?? run.device)
  const host = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`
  const report = { device, shape: run.shape, host, targets, results }
  const json = `${JSON.stringify(report, null, 2)}\n`
  const page = toPage({ device, host, run, targets })
  mkdirSync(run.out, { recursive: true })
  writeFileSync(join(run.out, 'report.json'), json)
  writeFileSync(join(run.out, 'report.md'), page)
  process.stdout.write(page)
  if (run.device !== 'cuda') return
  const day = new Date().toISOString().slice(0, 10)
  for (const kind of ['json', 'md']) {
    const name = `gpu-${run.shape}-${day}-${device.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.${kind}`
    copyFileSync(join(run.out, `report.${kind}`), join(ROOT, 'bench', 'results', name))
    note(`report: bench/results/${name}`)
  }
}

interface Page {
  readonly device: string
  readonly host: string
  readonly run: GpuRun
  readonly targets: readonly Target[]
}

function toPage({ device, host, run, targets }: Page): string {
  // The goals are a GPU's at 7B shape; anything else tries the stages out.
  const isJudged = run.device === 'cuda' && run.shape === '7b-f16'
  const line = ({ what, goal, value, isMet }: Target) => {
    const verdict = isJudged ? (isMet ? 'yes' : 'no') : 'not judged'
    return `| ${what} | ${goal} | ${value ?? 'not measured'} | ${verdict} |`
  }
  return [
    `# ${device}, shape ${run.shape}`,
    '',
    `Host: ${host}. All figures: report.json beside this page; method: bench/gpu/README.md.`,
    '',
    '| What | Goal | Measured | Met |',
    '| --- | --- | --- | --- |',
    ...targets.map(line),
    '',
  ].join('\n')
}
