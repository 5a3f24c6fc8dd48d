/**
 * A part of the host's own code, run in a process of its own: the CLI asks it instead of importing
 * it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import type { CommandCall } from './command.ts'

export interface ToolRun {
  /** Without the last line's end. */
  readonly stdout: string
  readonly stderr: string
}

/**
 * @param entry below gpu-host. `onLine` hears each line of stdout as it comes. Rejects when the
 * command is interrupted, not when the tool fails: it says itself what is wrong.
 */
export async function runHostTool(
  call: CommandCall,
  entry: string,
  args: readonly string[],
  onLine: (line: string) => void = () => {},
): Promise<ToolRun> {
  const path = join(call.projectRoot, 'gpu-host', entry)
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', path, ...args], {
    env: call.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: call.signal,
  })
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    onLine(line)
  })
  const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')])
  return { stdout: lines.join('\n'), stderr }
}
