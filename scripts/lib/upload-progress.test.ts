import { describe, expect, it } from 'vitest'
import { createOutput } from './output.ts'
import { drawProgress, formatBar, noteProgress, progressOn } from './upload-progress.ts'

describe('an upload on a terminal', () => {
  it('is a bar with what is done, how fast it goes, and what is left', () => {
    expect(formatBar(0, 40e6, 0, 0)).toBe(`  ${'░'.repeat(24)}  0%  0 B of 40.0 MB`)
    // A quarter was there before: it says nothing of the speed.
    expect(formatBar(20e6, 40e6, 10e6, 5000)).toBe(
      `  ${'█'.repeat(12)}${'░'.repeat(12)} 50%  20.0 MB of 40.0 MB  2.00 MB/s  0:10 left`,
    )
    expect(formatBar(40e6, 40e6, 40e6, 61_000)).toContain('100%')
  })

  it('is drawn ten times a second at most, whole at the end, and wiped', () => {
    const drawn: string[] = []
    let nowMs = 0
    const progress = drawProgress(
      (text) => drawn.push(text),
      () => nowMs,
    )(1000)
    for (let i = 0; i < 10; i += 1) {
      nowMs += 25
      progress.add(100)
    }
    progress.end()
    expect(drawn.map((line) => /\d+%/.exec(line)?.[0])).toEqual([
      '0%',
      '40%',
      '80%',
      '100%',
      undefined,
    ])
    expect(drawn.at(-1)).toBe('')
  })

  it('is drawn over one line of stderr, and nowhere else', () => {
    const written = { stdout: '', stderr: '' }
    const output = createOutput(
      true,
      { write: (text: string) => (written.stdout += text) },
      { write: (text: string) => (written.stderr += text), isTTY: true },
    )
    progressOn(output)(1000).end()
    expect(written.stdout).toBe('')
    const [empty, bar, wiped] = written.stderr.split('\r')
    expect([empty, wiped]).toEqual(['', '\x1b[K'])
    expect(bar).toMatch(/^ {2}░+ +0% {2}0 B of 1\.00 kB/)
  })
})

describe('an upload elsewhere', () => {
  it('notes every tenth of the way, and nothing that was done before', () => {
    const notes: string[] = []
    const start = noteProgress((text) => notes.push(text))
    const progress = start(20e6, 4.5e6)
    progress.add(1e6)
    progress.add(4e6)
    progress.add(10.5e6)
    progress.end()
    expect(notes).toEqual(['  40% of 20.0 MB', '  100% of 20.0 MB'])
  })

  it('says nothing of small ones', () => {
    const notes: string[] = []
    noteProgress((text) => notes.push(text))(1000).add(1000)
    expect(notes).toEqual([])
  })
})
