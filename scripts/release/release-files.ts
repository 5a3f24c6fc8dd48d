/** Writes the files of a release into a folder, or prints them. Never over what differs. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { CommandCall } from '../lib/command.ts'
import type { ReleaseFile } from './setting.ts'

/** Throws `refused` when a file there says something else and --force was not given. */
export function deliverFiles(call: CommandCall, files: readonly ReleaseFile[]): void {
  const out = call.flags.filledText('out')
  if (out === undefined) {
    const text = files.map(({ path, text }) => `# --- ${path}\n${text}`).join('\n')
    call.output.data({ files }, text.trimEnd())
    return
  }
  const folder = callerPath(call, out)
  const states = files.map((file) => ({
    ...file,
    state: stateOf(join(folder, file.path), file.text),
  }))
  const differing = states.filter(({ state }) => state === 'differs')
  if (differing.length > 0 && !call.flags.isSet('force')) {
    const names = differing.map(({ path }) => path).join(', ')
    const fix = 'Look at the difference, then --force, or name another folder.'
    throw new CliError('refused', `${folder} has another ${names}`, fix)
  }
  mkdirSync(folder, { recursive: true })
  for (const { path, text, state } of states) {
    if (state !== 'same') writeFileSync(join(folder, path), text)
  }
  const written = states.map(({ path, state }) => ({ path: join(folder, path), state }))
  const lines = written.map(
    ({ path, state }) => `${state === 'same' ? 'as it was' : 'wrote'}  ${path}`,
  )
  call.output.data({ files: written }, lines.join('\n'))
}

function stateOf(path: string, text: string): 'absent' | 'same' | 'differs' {
  try {
    return readFileSync(path, 'utf8') === text ? 'same' : 'differs'
  } catch {
    return 'absent'
  }
}
