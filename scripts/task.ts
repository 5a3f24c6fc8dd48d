/**
 * The npm scripts, on the pinned Node: `task.ts <task> [arguments]`. Each task prepares only what
 * it needs; notes go to stderr, so that stdout is the task's own. Started by bootstrap.mjs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { runCli } from './cli.ts'
import { CliError, EXIT_CODES } from './lib/cli-error.ts'
import { createDataDir, locateDataDir } from './lib/data-dir.ts'
import { watchInterrupts } from './lib/interrupt.ts'
import { askOn } from './lib/terminal-question.ts'
import type { BaseModelFile } from './setup/base-model.ts'
import { ensureBaseModel } from './setup/base-model.ts'
import { prepareNative, tryBaseModel } from './setup/prepare.ts'
import { tryPythonPackages } from './setup/python-packages.ts'

const projectRoot = dirname(dirname(fileURLToPath(import.meta.url)))
const { env } = process
const note = (line: string): void => void process.stderr.write(`nozzle: ${line}\n`)

/** Tasks that run a file of another folder, with the base model's place in its environment. */
const MEASURING_ENTRIES = {
  bench: join('bench', 'cli.ts'),
  eval: join('examples', 'eval.ts'),
} as const

/** The long version of what CI runs with a tenth of the crash points. */
const FAULT_SOAK = ['fault', '--json', '--points', '10000'] as const
/** As the benchmark does by itself. */
const ISOLATION_SOAK = ['isolation', '--json'] as const

const TASKS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  start: (args) => runNozzle(['up', ...args]),
  nozzle: runNozzle,
  setup: runSetup,
  test: runTest,
  bench: (args) => runMeasurement('bench', args),
  eval: (args) => runMeasurement('eval', args),
  mutants: async (args) =>
    (await import('./mutants/run-mutants.ts')).runMutants(projectRoot, args, note),
  audit: async (args) => (await import('./supply-chain/audit.ts')).runAudit(projectRoot, args),
  sbom: async (args) => (await import('./supply-chain/sbom.ts')).runSbom(projectRoot, args),
  licences: async () =>
    (await import('./supply-chain/write-licence-list.ts')).writeLicenceList(projectRoot, note),
  soak: runSoak,
}

function runNozzle(argv: readonly string[]): Promise<number> {
  const { stop, hurry } = watchInterrupts(process, () => performance.now())
  const readStdin = process.stdin.isTTY ? null : () => text(process.stdin)
  const { stdout, stderr } = process
  // A reader that has seen enough (`| head`) is no failure.
  stdout.on('error', (error) => process.exit('code' in error && error.code === 'EPIPE' ? 0 : 1))
  const ask = askOn(process)
  return runCli(argv, { env, projectRoot, stdout, stderr, signal: stop, hurry, readStdin, ask })
}

async function runSetup(): Promise<number> {
  const baseModel = await prepareAll()
  note(`ready to run: engine built, base model ${baseModel.name} in ${baseModel.path}`)
  return 0
}

/** Tests that need the real base model read these variables, and skip where it cannot be had. */
async function runTest(args: readonly string[]): Promise<number> {
  const { formatOutcome, isSuccess, runTests } = await import('./lib/run-tests.ts')
  let isPrepared = true
  try {
    await prepareNative(note)
  } catch (error) {
    // The tests of the other parts still say something; those of the engine fail by themselves.
    printError(error)
    isPrepared = false
  }
  const dir = locateDataDir({}, projectRoot)
  createDataDir(dir)
  const baseModel = await tryBaseModel(undefined, dir.models, note)
  if ('missing' in baseModel) {
    note(`tests on the real base model are skipped: ${baseModel.missing}`)
    env.NOZZLE_TEST_BASE_MODEL_MISSING = baseModel.missing
  } else {
    env.NOZZLE_TEST_BASE_MODEL = baseModel.path
  }
  const packages = tryPythonPackages(projectRoot, note)
  if ('missing' in packages) {
    note(`tests with clients in Python are skipped: ${packages.missing}`)
    env.NOZZLE_TEST_PYTHON_MISSING = packages.missing
  } else {
    env.NOZZLE_TEST_PYTHON_PACKAGES = packages.path
  }
  const outcome = await runTests(args)
  process.stdout.write(`\n${formatOutcome(outcome)}\n`)
  return isPrepared && isSuccess(outcome) ? 0 : 1
}

async function runSoak(args: readonly string[]): Promise<number> {
  const without = (flag: string) => args.filter((arg) => arg !== flag)
  if (args.includes('--fault')) {
    return runMeasurement('bench', [...FAULT_SOAK, ...without('--fault')])
  }
  if (args.includes('--isolation')) {
    return runMeasurement('bench', [...ISOLATION_SOAK, ...without('--isolation')])
  }
  if (args.includes('--workerd')) {
    env.NOZZLE_TEST_EDGE = 'workerd'
    return runTest(['--project', 'e2e', ...without('--workerd')])
  }
  const soak = await import('./soak.ts')
  return soak.runSoak(projectRoot, args, env, note)
}

async function runMeasurement(
  task: keyof typeof MEASURING_ENTRIES,
  args: readonly string[],
): Promise<number> {
  const entry = join(projectRoot, MEASURING_ENTRIES[task])
  if (!existsSync(entry)) throw new CliError('not_found', `this checkout holds no ${entry}`)
  const baseModel = await prepareAll()
  const child = spawn(process.execPath, [...process.execArgv, entry, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...env, NOZZLE_BASE_MODEL_PATH: baseModel.path, NOZZLE_BASE_MODEL_NAME: baseModel.name },
  })
  // One that does not listen to its channel still ends with the task.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  process.on('disconnect', () => child.kill('SIGTERM'))
  const [code] = await once(child, 'exit')
  return code ?? 1
}

async function prepareAll(): Promise<BaseModelFile> {
  const dir = locateDataDir(env, projectRoot)
  createDataDir(dir)
  await prepareNative(note)
  return ensureBaseModel(env.NOZZLE_BASE_MODEL, dir.models, note)
}

function printError(error: unknown): void {
  if (!(error instanceof CliError)) throw error
  note(`error: ${error.message}${error.fix ? `\nfix: ${error.fix}` : ''}`)
}

const [task = '', ...args] = process.argv.slice(2)
const run = Object.hasOwn(TASKS, task) ? TASKS[task] : undefined
try {
  if (!run) throw new CliError('usage', `unknown task "${task}"`, Object.keys(TASKS).join(', '))
  process.exitCode = await run(args)
} catch (error) {
  printError(error)
  process.exitCode = error instanceof CliError ? error.exitCode : EXIT_CODES.unexpected
}
// The channel to bootstrap.mjs would keep this process alive; to let go of it is no interrupt.
process.removeAllListeners('disconnect')
if (process.connected) process.disconnect()
