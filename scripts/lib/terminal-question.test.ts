/** Node's own line editor, on streams that say they are a terminal. */
import { PassThrough } from 'node:stream'
import { describe, expect, it, vi } from 'vitest'
import { askOn } from './terminal-question.ts'

function terminal(isTTY = true) {
  const stdin = Object.assign(new PassThrough(), { isTTY })
  const stderr = Object.assign(new PassThrough(), { isTTY })
  const kill = vi.fn(() => true)
  let shown = ''
  stderr.on('data', (chunk) => (shown += chunk))
  const ask = askOn({ stdin, stderr, kill, pid: 7 })
  return { ask, stdin, kill, shown: () => shown }
}
const idle = new AbortController().signal

describe('askOn', () => {
  it('asks, shows what is typed, and gives it without spaces around it', async () => {
    const { ask, stdin, shown } = terminal()
    const answer = ask?.({ text: 'URL: ' }, idle)
    stdin.write('  http://edge \r')
    expect(await answer).toBe('http://edge')
    expect(shown()).toContain('URL: ')
    expect(shown()).toContain('http://edge')
  })

  it('shows nothing of a hidden answer', async () => {
    const { ask, stdin, shown } = terminal()
    const answer = ask?.({ text: 'Key: ', isHidden: true }, idle)
    stdin.write('nz_secret\r')
    expect(await answer).toBe('nz_secret')
    expect(shown()).toBe('Key: \n')
  })

  it('gives lines that were pasted at once to the questions that follow', async () => {
    const { ask, stdin, shown } = terminal()
    const answer = ask?.({ text: '1> ' }, idle)
    stdin.write('one\rtwo \r\rfour\r')
    expect(await answer).toBe('one')
    const others = [await ask?.({ text: '2> ' }, idle), await ask?.({ text: '3> ' }, idle)]
    expect(others).toEqual(['two', 'four'])
    expect(shown()).toContain('2> two\n')
  })

  it('ends the line of a question that Ctrl-D answers', async () => {
    const { ask, stdin, shown } = terminal()
    const answer = ask?.({ text: '> ' }, idle)
    stdin.write('\x04')
    expect(await answer).toBe('')
    expect(shown().endsWith('\n')).toBe(true)
  })

  it('passes Ctrl-C on, and gives up when it is told to', async () => {
    const { ask, stdin, kill } = terminal()
    const stop = new AbortController()
    const answer = ask?.({ text: 'Key: ', isHidden: true }, stop.signal)
    stdin.write('\x03')
    await vi.waitFor(() => expect(kill).toHaveBeenCalledWith(7, 'SIGINT'))
    stop.abort(new Error('stopped'))
    await expect(answer).rejects.toThrow('stopped')
  })

  it('asks nobody where there is no terminal', () => {
    expect(terminal(false).ask).toBeNull()
  })
})
