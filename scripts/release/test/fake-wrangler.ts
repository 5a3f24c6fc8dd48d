/**
 * Stands in for wrangler, since the real one needs an account: a program of that name that notes
 * what it was given, and answers as wrangler 4.164 does. A Worker is a version id here.
 */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface WranglerCall {
  readonly argv: readonly string[]
  /** Of NOZZLE_*, as its environment has them. */
  readonly variables: readonly string[]
  /** Content and mode of --secrets-file. */
  readonly secrets: Readonly<Record<string, string>> | null
  readonly mode: string | null
}

const PROGRAM = `#!${process.execPath}
const fs = require('node:fs')
const { join } = require('node:path')
const folder = __dirname
const argv = process.argv.slice(2)
const at = argv.indexOf('--secrets-file')
const file = at < 0 ? null : argv[at + 1]
fs.appendFileSync(join(folder, 'calls'), JSON.stringify({
  argv,
  variables: Object.keys(process.env).filter((name) => name.startsWith('NOZZLE_')),
  secrets: file && JSON.parse(fs.readFileSync(file, 'utf8')),
  mode: file && (fs.statSync(file).mode & 0o777).toString(8),
}) + '\\n')
const versionFile = join(folder, 'version')
const version = fs.existsSync(versionFile) ? fs.readFileSync(versionFile, 'utf8') : null
const fail = (text) => { console.error(text); process.exit(1) }
if (argv[0] === 'deployments') {
  if (fs.existsSync(join(folder, 'logged-out'))) fail('You are not authenticated.')
  if (version === null) fail('This Worker does not exist on your account. [code: 10007]')
  console.log(JSON.stringify({ versions: [
    { version_id: 'canary', percentage: 10 }, { version_id: version, percentage: 90 }] }))
} else if (argv[0] === 'deploy') {
  if (fs.existsSync(join(folder, 'refuses'))) fail('Your Worker exceeded the size limit.')
  fs.writeFileSync(versionFile, 'v-new')
  const output = process.env.WRANGLER_OUTPUT_FILE_PATH
  fs.appendFileSync(output, JSON.stringify({ type: 'wrangler-session' }) + '\\n' + JSON.stringify({ type: 'deploy', version_id: 'v-new', targets: [] }) + '\\n')
} else if (argv[0] === 'rollback') {
  fs.writeFileSync(versionFile, argv[1])
}
`

export class FakeWrangler {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'nozzle-wrangler-'))

  constructor() {
    writeFileSync(join(this.folder, 'wrangler'), PROGRAM)
    chmodSync(join(this.folder, 'wrangler'), 0o755)
  }

  /** The version that serves; null = none was ever deployed. */
  get version(): string | null {
    const path = join(this.folder, 'version')
    return existsSync(path) ? readFileSync(path, 'utf8') : null
  }

  set version(id: string) {
    writeFileSync(join(this.folder, 'version'), id)
  }

  fails(how: 'logged-out' | 'refuses'): void {
    writeFileSync(join(this.folder, how), '')
  }

  calls(): WranglerCall[] {
    const path = join(this.folder, 'calls')
    if (!existsSync(path)) return []
    return readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}
