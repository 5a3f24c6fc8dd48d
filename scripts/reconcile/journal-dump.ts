/**
 * The usage events that a host's journal holds, read by the host's own dump as a process: how a
 * journal is written is the host's affair. Safe while the host runs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { type UsageEvent, usageEvent } from '#protocol'
import { CliError } from '../lib/cli-error.ts'
import type { CommandCall } from '../lib/command.ts'

export interface JournalBook {
  readonly directory: string
  /** Oldest first; the same event once for each time that it was settled. */
  readonly events: readonly UsageEvent[]
}

/** Throws `not_found` when there is no such directory, `refused` when the dump cannot read it. */
export async function readJournal(call: CommandCall, directory: string): Promise<JournalBook> {
  if (!existsSync(directory)) {
    throw new CliError('not_found', `there is no journal at ${directory}`)
  }
  const entry = join(call.projectRoot, 'gpu-host', 'journal', 'dump.ts')
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', entry, directory],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: call.signal,
    },
  )
  const ended = once(child, 'exit')
  const [events, stderr] = await Promise.all([
    parseLines(directory, createInterface(child.stdout)),
    text(child.stderr),
    ended,
  ])
  if (child.exitCode === 0) return { directory, events }
  throw new CliError('refused', `the journal at ${directory} cannot be read: ${stderr.trim()}`)
}

async function parseLines(directory: string, lines: AsyncIterable<string>): Promise<UsageEvent[]> {
  const events: UsageEvent[] = []
  for await (const line of lines) {
    const parsed = usageEvent.safeParse(JSON.parse(line))
    if (parsed.success) events.push(parsed.data)
    else throw new CliError('refused', `the dump of ${directory} says no usage event: ${line}`)
  }
  return events
}
