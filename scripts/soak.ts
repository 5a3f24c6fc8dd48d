/**
 * `npm run soak -- [--minutes N] [--seed S]`: the native tests on an engine that was built with
 * AddressSanitizer and UndefinedBehaviorSanitizer, then, for the rest of N CPU minutes, the fuzzers
 * of what nobody vouches for, on that engine and on the readers in TypeScript. The last line of
 * stdout is the report; exit code 1 = a finding, whose own message and replay are above it. With
 * `--ledger`, `--schemathesis`, `--bad-inputs` or `--security` another soak altogether: the file of
 * its name in soak/; with `--fault`, `--isolation` or `--workerd` a long version of a bench or of
 * tests (task.ts).
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ensureSanitizedBuilt } from '../native/build.ts'
import { NATIVE_PATHS } from '../native/paths.ts'
import { CliError } from './lib/cli-error.ts'
import { prepareNative } from './setup/prepare.ts'

const MINUTES = 24
/** Of the time for fuzzing, the part of the sanitizer-built engine. */
const ENGINE_SHARE = 0.6
/** A soak shorter than its tests still fuzzes this long. */
const FUZZ_SECONDS_MIN = 5
/** Node itself leaks by design; what our own code must return is freed with the engine. */
const SANITIZER_OPTIONS = {
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1:allocator_may_return_null=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:abort_on_error=1',
}
const FUZZ_TESTS = {
  engine: 'native/test/80.fuzz',
  readers: [
    'gpu-host/adapters/untrusted-files',
    'gpu-host/journal/untrusted-journal',
    'gpu-host/untrusted-grants',
    'edge/openai/untrusted-requests',
  ],
}

export async function runSoak(
  root: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  note: (text: string) => void,
): Promise<number> {
  if (args.includes('--ledger')) {
    const { runLedgerSoak } = await import('./soak/ledger.ts')
    return runLedgerSoak(args, note)
  }
  if (args.includes('--schemathesis')) {
    const { runSchemathesisSoak } = await import('./soak/schemathesis.ts')
    return runSchemathesisSoak(root, args, env, note)
  }
  if (args.includes('--bad-inputs')) {
    const { runBadInputsSoak } = await import('./soak/bad-inputs.ts')
    return runBadInputsSoak(root, args, env, note)
  }
  if (args.includes('--security')) {
    const { runSecuritySoak } = await import('./soak/security.ts')
    return runSecuritySoak(root, args, env)
  }
  const { minutes, seed } = parseSoakArgs(args)
  await prepareNative(note)
  const runtime = ensureSanitizedBuilt(note)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-soak-'))
  const fuzzReport = join(scratch, 'fuzz.jsonl')
  writeFileSync(fuzzReport, '')
  const sanitized = {
    ...env,
    ...SANITIZER_OPTIONS,
    LD_PRELOAD: runtime,
    NOZZLE_NATIVE_BUILD_DIR: NATIVE_PATHS.sanitizedBuildDir,
  }
  const fuzzing = (seconds: number) => ({
    ...env,
    NOZZLE_FUZZ_SECONDS: String(seconds),
    NOZZLE_FUZZ_SEED: String(seed),
    NOZZLE_FUZZ_REPORT: fuzzReport,
  })
  try {
    const begin = childCpuSeconds()
    const tests = await runVitest(root, scratch, ['--project', 'native'], sanitized)
    const spent = childCpuSeconds() - begin
    const rest = Math.max(FUZZ_SECONDS_MIN, minutes * 60 - spent)
    const onEngine = { ...fuzzing(Math.ceil(rest * ENGINE_SHARE)), ...sanitized }
    const engine = await runVitest(root, scratch, [FUZZ_TESTS.engine], onEngine)
    // Each of them shares its own time out.
    const readersTime = (rest * (1 - ENGINE_SHARE)) / FUZZ_TESTS.readers.length
    const onReaders = fuzzing(Math.ceil(readersTime))
    const readers = await runVitest(root, scratch, FUZZ_TESTS.readers, onReaders)
    const isSound = [tests, engine, readers].every((one) => one.failed === 0 && one.passed > 0)
    const report = {
      date: new Date().toISOString(),
      machine: `${process.platform} ${process.arch}, ${cpus().length} cores, ${cpus()[0]?.model}`,
      seed,
      cpu_minutes: Number(((childCpuSeconds() - begin) / 60).toFixed(2)),
      native_tests: { sanitizers: 'address, undefined, float-cast-overflow', ...tests },
      fuzz: readFileSync(fuzzReport, 'utf8')
        .trim()
        .split('\n')
        .filter((line) => line !== '')
        .map((line): unknown => JSON.parse(line)),
      findings: isSound ? 0 : tests.failed + engine.failed + readers.failed || 1,
    }
    process.stdout.write(`${JSON.stringify(report)}\n`)
    return isSound ? 0 : 1
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function parseSoakArgs(args: readonly string[]): { minutes: number; seed: number } {
  const usage = 'npm run soak -- [--minutes N] [--seed S]'
  let values: { minutes?: string; seed?: string }
  try {
    const options = { minutes: { type: 'string' }, seed: { type: 'string' } } as const
    values = parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), usage)
  }
  const minutes = Number(values.minutes ?? MINUTES)
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  if (!(minutes > 0)) throw new CliError('usage', '--minutes must be a number above 0', usage)
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31) {
    throw new CliError('usage', '--seed must be an integer from 0 to 2147483647', usage)
  }
  return { minutes, seed }
}

interface Outcome {
  readonly passed: number
  readonly failed: number
}

/** In a process of its own: a sanitizer ends the one that it finds something in. */
async function runVitest(
  root: string,
  scratch: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<Outcome> {
  const outputFile = join(scratch, 'vitest.json')
  rmSync(outputFile, { force: true })
  const entry = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const reporters = ['--reporter=json', `--outputFile=${outputFile}`, '--reporter=default']
  const slow = ['--testTimeout=300000', '--hookTimeout=300000', '--no-file-parallelism']
  const child = spawn(process.execPath, [entry, 'run', ...args, ...reporters, ...slow], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env,
  })
  const [code] = await once(child, 'exit')
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(outputFile, 'utf8'))
    return { passed: numPassedTests, failed: code === 0 ? numFailedTests : numFailedTests || 1 }
  } catch {
    return { passed: 0, failed: 1 }
  }
}

/** User and system time of all children that ended, as Linux keeps it. */
function childCpuSeconds(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ') ?? []
  const ticksPerSecond = 100
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond
}
