/** What Linux says about a running process. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Resident memory in bytes. Throws when there is no such process. */
export function rssBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  if (kib === undefined) throw new Error(`process ${pid} has no memory`)
  return Number(kib) * 1024
}

/** Sockets that it holds open, listening ones too. */
export function openSockets(pid: number): number {
  const directory = `/proc/${pid}/fd`
  return readdirSync(directory).filter((name) => {
    try {
      return readlinkSync(`${directory}/${name}`).startsWith('socket:')
    } catch {
      return false // Closed while we looked.
    }
  }).length
}
