/**
 * Asks whoever sits at the terminal, on stderr: stdout is for data. A hidden answer is not shown
 * while it is typed. Lines that come at once, as when they are pasted, answer the questions that
 * follow; blank ones among them count for nothing.
 */
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'

export interface Question {
  readonly text: string
  readonly isHidden?: boolean
}
/** Resolves to the answer without spaces around it. Rejects when `signal` aborts. */
export type Ask = (question: Question, signal: AbortSignal) => Promise<string>

/** As far as it is needed of a process. */
interface Terminal {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean }
  readonly pid: number
  kill(pid: number, signal: 'SIGINT'): unknown
}

/** null where nobody can be asked: stdin or stderr is no terminal. */
export function askOn(terminal: Terminal): Ask | null {
  const { stdin, stderr } = terminal
  if (!stdin.isTTY || !stderr.isTTY) return null
  const ahead: string[] = []
  return async ({ text, isHidden = false }, signal) => {
    const early = isHidden ? undefined : ahead.shift()
    if (early !== undefined) {
      stderr.write(`${text}${early}\n`)
      return early
    }
    const echo = isHidden ? new Writable({ write: (_chunk, _encoding, done) => done() }) : stderr
    const lines = createInterface({ input: stdin, output: echo, terminal: true, prompt: text })
    // The line editor takes Ctrl-C; it is meant for the command.
    lines.on('SIGINT', () => terminal.kill(terminal.pid, 'SIGINT'))
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    let isAnswered = false
    lines.on('line', (line) => {
      if (isAnswered && !isHidden && line.trim() !== '') ahead.push(line.trim())
      isAnswered = true
      resolve(line)
    })
    // Ctrl-D leaves the cursor where it is.
    lines.on('close', () => {
      if (!isAnswered && !isHidden) stderr.write('\n')
      resolve('')
    })
    const abort = (): void => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    // Only now: what is typed in answer is no longer shown by the terminal itself.
    if (isHidden) stderr.write(text)
    else lines.prompt()
    try {
      return (await promise).trim()
    } finally {
      signal.removeEventListener('abort', abort)
      lines.close()
      if (isHidden) stderr.write('\n')
    }
  }
}
