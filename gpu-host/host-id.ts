/**
 * The id of a host that its operator has not given one: drawn at the first start and kept in its
 * own directory, so that it is the same at the next one, and two hosts never share it by default.
 * Beside it the name that people call the host, which is the machine's by default.
 */
import { randomBytes } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { HostConfig } from './config.ts'
import { errorCodeOf, HostError } from './errors.ts'

export const HOST_ID = /^[A-Za-z0-9_-]{1,80}$/

const ID_BYTES = 8
const NAME_CHARACTERS_MAX = 80

export type NamedConfig = HostConfig & { readonly hostId: string; readonly hostName: string }

/** Throws `invalid_request` when the file that holds the id is damaged. */
export function withHostId(config: HostConfig): NamedConfig {
  const hostId = config.hostId ?? readHostId(config.hostDirectory)
  return { ...config, hostId, hostName: config.hostName ?? machineName() }
}

function machineName(): string {
  return hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, NAME_CHARACTERS_MAX)
}

function readHostId(directory: string): string {
  const path = join(directory, 'id')
  const id = readIfPresent(path) ?? drawId(directory, path)
  if (HOST_ID.test(id)) return id
  throw new HostError('invalid_request', `${path} holds no host id: remove it, or restore it`)
}

function readIfPresent(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return null
    throw error
  }
}

/** Whole or not at all: the name is given to a file that is written. */
function drawId(directory: string, path: string): string {
  mkdirSync(directory, { recursive: true })
  const id = `hst_${randomBytes(ID_BYTES).toString('hex')}`
  const draft = `${path}.${process.pid}`
  writeFileSync(draft, `${id}\n`, { flush: true })
  try {
    linkSync(draft, path)
    return id
  } catch (error) {
    if (errorCodeOf(error) !== 'EEXIST') throw error
    return readIfPresent(path) ?? id
  } finally {
    rmSync(draft, { force: true })
  }
}
