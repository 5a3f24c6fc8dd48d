/**
 * `npm run soak -- --ledger [--events N] [--seed S]`: N usage events through the ledger on a
 * PostgreSQL of its own (db/soak/ledger-soak.ts). The last line of stdout is the report; exit code
 * 1 = a sum that differs from the recount.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { soakLedger } from '#db/soak/ledger-soak.ts'
import { CliError } from '../lib/cli-error.ts'

const EVENTS = 10_000_000
const USAGE = 'npm run soak -- --ledger [--events N] [--seed S]'

export async function runLedgerSoak(
  args: readonly string[],
  note: (text: string) => void,
): Promise<number> {
  const report = await soakLedger({ ...parseLedgerArgs(args), note })
  const date = new Date().toISOString()
  const machine = `${process.platform} ${process.arch}, ${cpus().length} cores, ${cpus()[0]?.model}`
  process.stdout.write(`${JSON.stringify({ date, machine, ...report })}\n`)
  return report.isExact ? 0 : 1
}

function parseLedgerArgs(args: readonly string[]): { events: number; seed: number } {
  const string = { type: 'string' } as const
  const options = { ledger: { type: 'boolean' }, events: string, seed: string } as const
  let values: { events?: string; seed?: string }
  try {
    values = parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
  const events = Number(values.events ?? EVENTS)
  const seed = Number(values.seed ?? 1)
  if (!Number.isInteger(events) || events < 1) {
    throw new CliError('usage', '--events must be an integer above 0', USAGE)
  }
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31) {
    throw new CliError('usage', '--seed must be an integer from 0 to 2147483647', USAGE)
  }
  return { events, seed }
}
