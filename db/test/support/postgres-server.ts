/**
 * A throwaway PostgreSQL server on a unix socket in a temporary directory, with durability off: it
 * is there to run SQL, not to survive. PostgreSQL refuses to run as root, so for root it runs as an
 * unprivileged user.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
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

/** The directory that holds `initdb` and `postgres`, or null. */
export function findPostgres(): string | null {
  const debian = existsSync(DEBIAN_ROOT)
    ? readdirSync(DEBIAN_ROOT).map((version) => join(DEBIAN_ROOT, version, 'bin'))
    : []
  const places = [...(process.env.PATH ?? '').split(delimiter), ...debian]
  const hasBoth = (place: string) =>
    existsSync(join(place, 'initdb')) && existsSync(join(place, 'postgres'))
  return places.find(hasBoth) ?? null
}

export async function startPostgres(binaries: string): Promise<PostgresServer> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-pg-'))
  const user = unprivilegedUser()
  if (user) chownSync(directory, user.uid, user.gid)
  chmodSync(directory, 0o700)
  const data = join(directory, 'data')
  const options = { cwd: directory, ...user }
  execFileSync(
    join(binaries, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync'],
    { ...options, stdio: 'pipe' },
  )
  const settings = ['listen_addresses=', `unix_socket_directories=${directory}`, 'fsync=off']
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

function unprivilegedUser(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
  return { uid: idOf('-u'), gid: idOf('-g') }
}
