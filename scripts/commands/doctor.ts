/**
 * `nozzle doctor`: everything a pool on this machine needs, and the pool that commands would use,
 * looked at without changing anything.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { causeText } from '../lib/cause-text.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { EDGE_FLAGS, type EdgeTarget, locateEdge } from '../lib/edge-target.ts'
import { readEnvFile } from '../lib/env-file.ts'
import { MACHINE_CHECKS } from '../setup/doctor-checks.ts'
import { type DoctorPlace, type Finding, fail } from '../setup/finding.ts'
import { POOL_CHECKS } from '../setup/pool-checks.ts'

const MARKS = { ok: 'ok  ', warn: 'warn', fail: 'FAIL' } as const
const STYLES = { ok: 'good', warn: 'warning', fail: 'bad' } as const

interface NamedFinding extends Finding {
  readonly scope: 'machine' | 'pool'
  readonly name: string
}

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'find what is wrong with this machine and with the pool, and how to mend it',
  positionals: [],
  flags: {
    env: { type: 'string', value: 'path', help: 'settings of a host, as `host add` wrote them' },
    ...EDGE_FLAGS,
  },
  details:
    'Of this machine: Node, compiler, CMake, base model and its digest, data directory, disk, store\n' +
    'and its packs, database and its migrations, port, GPU. Of the pool here, or of the edge that is\n' +
    'named: does it answer, with its database; do the clocks agree; is the key known; is the pool\n' +
    'secret that of the edge; do hosts serve, of this release and with the right base model.\n' +
    'Exits 0 when nothing fails (warnings allowed), 7 when something does on this machine, 6 when\n' +
    'something does with the pool alone.',
  examples: [
    'nozzle doctor',
    'nozzle doctor --profile prod',
    'nozzle doctor --env gpu-2.env     # on the machine of that host',
    'nozzle doctor --json | jq \'.checks[] | select(.status != "ok")\'',
  ],
  async run(call) {
    const { output } = call
    const path = call.flags.filledText('env')
    const env = path === undefined ? call.env : { ...call.env, ...readEnvFile(call, path) }
    const found = await examine({ ...call, env })
    const lines = found.map(({ name, status, detail, fix }) => {
      const line = `${output.paint(STYLES[status], MARKS[status])}  ${name.padEnd(14)}  ${detail}`
      return fix === null ? line : `${line}\n      fix: ${fix}`
    })
    output.data({ checks: found }, lines.join('\n'))
    const isMachineAlone = found.every(({ scope }) => scope === 'machine')
    if (isMachineAlone) output.note('no pool runs here and no edge is named: the machine alone')
    const failed = found.filter(({ status }) => status === 'fail')
    if (failed.length === 0) return
    const isHere = failed.some(({ scope }) => scope === 'machine')
    const names = failed.map(({ name }) => name).join(', ')
    throw new CliError(isHere ? 'missing_prerequisite' : 'unavailable', names, 'See above.')
  },
}

async function examine(call: CommandCall): Promise<NamedFinding[]> {
  const { env, projectRoot } = call
  const place = { call, env, projectRoot, dir: locateDataDir(env, projectRoot), nowMs: Date.now }
  const found: NamedFinding[] = []
  for (const { name, run } of MACHINE_CHECKS) {
    found.push({ scope: 'machine', name, ...(await look(() => run(place))) })
  }
  const target = locate(call)
  if (target === null) return found
  return [...found, ...(await examinePool(place, target))]
}

export async function examinePool(
  place: DoctorPlace,
  target: EdgeTarget | CliError,
): Promise<NamedFinding[]> {
  if (target instanceof CliError) {
    return [{ scope: 'pool', name: 'key', ...fail(target.message, target.fix ?? 'See above.') }]
  }
  const { version } = JSON.parse(readFileSync(join(place.projectRoot, 'package.json'), 'utf8'))
  const found: NamedFinding[] = []
  for (const { name, run } of POOL_CHECKS) {
    found.push({ scope: 'pool', name, ...(await look(() => run({ ...place, target, version }))) })
    // Whoever does not answer says nothing more.
    if (name === 'edge' && found.at(-1)?.status === 'fail') break
  }
  return found
}

/** A check that cannot look has found something, too. */
async function look(check: () => Finding | Promise<Finding>): Promise<Finding> {
  try {
    return await check()
  } catch (error) {
    const fix = error instanceof CliError ? error.fix : null
    return fail(causeText(error), fix ?? 'Mend what is said above first, then look again.')
  }
}

/** null = no pool runs here and none is named: the machine alone was asked about. */
function locate(call: CommandCall): EdgeTarget | CliError | null {
  try {
    return locateEdge(call)
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    return error.reason === 'unavailable' ? null : error
  }
}
