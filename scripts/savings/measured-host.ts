/**
 * What one host was measured to do, from the reports of record in bench/results. Says which files
 * and which machine each figure comes from.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { CliError } from '../lib/cli-error.ts'
import type { HostSpeed } from './tenant-threshold.ts'

/** One shape on one machine: figures of different ones do not belong together. */
const REPORTS = {
  base: 'base-demo-2026-11-25-x64-2cores.json',
  mix: 'mix-demo-16-tenants-2026-11-25-x64-2cores.json',
  churn: 'churn-demo-2026-11-25-x64-2cores.json',
} as const

const machine = { shape: z.string(), device: z.string() }
const rate = z.number().positive()
const baseReport = z.object({ ...machine, prefill_tok_s: rate })
const mixReport = z.object({ ...machine, distinct_tok_s: rate, adapter_bytes: z.int().min(1) })
const churnReport = z.object({ ...machine, throughput_vs_resident: rate })

export interface MeasuredHost extends HostSpeed {
  /** One line a figure: value, what it is, file and machine. */
  readonly sources: readonly string[]
}

/** Throws `not_found` or `refused` and names the file that is missing or not such a report. */
export function readMeasuredHost(resultsDirectory: string): MeasuredHost {
  const base = readReport(resultsDirectory, REPORTS.base, baseReport)
  const mix = readReport(resultsDirectory, REPORTS.mix, mixReport)
  const churn = readReport(resultsDirectory, REPORTS.churn, churnReport)
  const from = (file: string, { shape, device }: { shape: string; device: string }): string =>
    `bench/results/${file} (shape ${shape}; ${device})`
  return {
    prefillTokensPerS: base.prefill_tok_s,
    decodeTokensPerS: mix.distinct_tok_s,
    churnRatio: churn.throughput_vs_resident,
    adapterBytes: mix.adapter_bytes,
    sources: [
      `${base.prefill_tok_s} prompt tokens/s: ${from(REPORTS.base, base)}`,
      `${mix.distinct_tok_s} completion tokens/s, each sequence with its own adapter of ` +
        `${mix.adapter_bytes} bytes: ${from(REPORTS.mix, mix)}`,
      `${churn.throughput_vs_resident} of that while adapters come and go: ` +
        from(REPORTS.churn, churn),
    ],
  }
}

function readReport<T extends z.ZodType>(directory: string, file: string, schema: T): z.infer<T> {
  const path = join(directory, file)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    throw new CliError('not_found', `${path} does not exist`, 'Name a folder with --results.')
  }
  const parsed = schema.safeParse(parseJson(text))
  if (parsed.success) return parsed.data
  const field = parsed.error.issues[0]?.path.join('.') || 'the document'
  throw new CliError('refused', `${path}: ${field} is not as a report has it`)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
