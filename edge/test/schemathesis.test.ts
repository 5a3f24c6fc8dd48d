/**
 * schemathesis against the whole edge: requests that it makes of `/openapi.json`, right and wrong
 * ones, none of which may be answered with a 5xx or with anything that the document does not say.
 * A few per operation here; `npm run soak -- --schemathesis` makes many more.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pythonPath, pythonReason, runPython } from '../../test/support/python.ts'
import { TestPool } from './support/test-pool.ts'

const EXAMPLES_SHORT = 3
const EXAMPLES = Number(process.env.NOZZLE_SCHEMATHESIS_EXAMPLES ?? EXAMPLES_SHORT)
const SEED = process.env.NOZZLE_SCHEMATHESIS_SEED ?? '1'
const isLong = EXAMPLES > EXAMPLES_SHORT
const TIMEOUT_MS = isLong ? 7_200_000 : 300_000
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
]

/** Of at least a hundred cases. */
const NO_FAILURE = /\b(\d{3,}) generated, \1 passed/

let pool: TestPool
let directory = ''
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-schemathesis-'))
  pool = await TestPool.start()
  await pool.addHost()
})
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true })
  await pool.stop()
})

/** `given`: parameters that are not made up, as its configuration names them. */
async function run(given: Readonly<Record<string, string>>, more: readonly string[]) {
  const config = join(directory, 'schemathesis.toml')
  const lines = Object.entries(given).map(([name, value]) => `"${name}" = "${value}"`)
  writeFileSync(config, ['[parameters]', ...lines, ''].join('\n'))
  const args = [
    ...['-m', 'schemathesis.cli', '--config-file', config, 'run', `${pool.url}/openapi.json`],
    ...['--header', `Authorization: Bearer ${pool.operatorKey}`, '--no-color'],
    ...['--checks', CHECKS.join(','), '--max-examples', String(EXAMPLES), '--seed', SEED],
    ...['--phases', isLong ? 'examples,coverage,fuzzing' : 'fuzzing'],
    ...['--suppress-health-check', 'all', '--continue-on-failure', ...more],
  ]
  return runPython(args, directory)
}

const isThere = pythonPath !== null
describe.skipIf(!isThere)(
  isThere ? 'schemathesis' : `schemathesis (skipped: ${pythonReason})`,
  () => {
    /** A short deadline is a reason for 503, and so is a base model that no host has. */
    const served = { 'header.x-nozzle-deadline-ms': '600000', 'query.base_model': 'fake-base' }

    it(
      'finds no 5xx and no undocumented reply, on names that it makes up',
      async () => {
        expect(await run(served, [])).toMatch(NO_FAILURE)
      },
      TIMEOUT_MS,
    )

    it(
      'nor on a tenant and a model that are there',
      async () => {
        const tenant = await pool.addTenant()
        await pool.deploy(tenant, 'support', 'weights')
        const names = { 'path.tenant': tenant.name, 'path.model': 'support', ...served }
        // What it would remove is needed by all that follow.
        const output = await run(names, ['--exclude-operation-id', 'removeModel'])
        expect(output).toMatch(NO_FAILURE)
      },
      TIMEOUT_MS,
    )
  },
)
