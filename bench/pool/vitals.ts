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

/** CPU time that it has used, all threads together, in milliseconds. */
export function cpuMs(pid: number): number {
  return readStat(pid).cpuMs
}

/** Of all processes of a group that live, in milliseconds. */
export function groupCpuMs(group: number): number {
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger)
  return pids.reduce((sum, pid) => {
    try {
      const stat = readStat(pid)
      return stat.group === group ? sum + stat.cpuMs : sum
    } catch {
      return sum // Ended while we looked.
    }
  }, 0)
}

/** Linux tells CPU time in hundredths of a second. */
const TICK_MS = 10

function readStat(pid: number): { group: number; cpuMs: number } {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // A program's name, in parentheses, may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [group, user, system] = [2, 11, 12].map((index) => Number(fields[index]))
  return { group: group ?? 0, cpuMs: ((user ?? 0) + (system ?? 0)) * TICK_MS }
}
