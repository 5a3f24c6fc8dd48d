import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { UsageEvent } from '../protocol.ts'
import {
  JournalRig,
  journalOptions,
  opened,
  progress,
  settled,
  started,
} from '../test/support/journal-records.ts'
import { Journal } from './journal.ts'
import type { JournalRecord } from './record.ts'
import { headOf, listSegments, scanSegment, segmentPath } from './segment.ts'
import { CURSOR_START, readSettled } from './settled-reader.ts'

let rig: JournalRig
beforeEach(() => {
  rig = new JournalRig()
})

describe('journal', () => {
  it('closes what a crash left open at its last progress', () => {
    const journal = rig.open()
    journal.append([opened(0), opened(1), opened(2)])
    journal.append([started(0), progress(0, 3, 1)])
    journal.append([progress(0, 3, 7), progress(1, 2, 0)])
    journal.append([settled(2, 4)])
    const next = rig.open()
    expect(next.openCount).toBe(0)
    const events = rig.settledEvents()
    expect(events.map(({ request_id }) => request_id)).toEqual(['req_2', 'req_0'])
    expect(events[1]).toMatchObject({
      source: 'recovered',
      finish_reason: 'error',
      prompt_tokens: 3,
      cached_prompt_tokens: 2,
      completion_tokens: 7,
      gpu_us: 70,
      ttft_us: 9,
      epoch: next.epoch,
    })
    expect(rig.open().recovery.open).toEqual([])
    expect(rig.settledEvents()).toHaveLength(2)
  })

  it('keeps requests of two lives apart though their handles are the same', () => {
    rig.open().append([opened(0), progress(0, 3, 2)])
    const second = rig.open()
    second.append([{ ...opened(7), n: 0 }, progress(0, 9, 5)])
    rig.open()
    expect(rig.settledEvents()).toMatchObject([
      { request_id: 'req_0', completion_tokens: 2 },
      { request_id: 'req_7', completion_tokens: 5, prompt_tokens: 9 },
    ])
  })

  it('reads the journals of before the prefix cache', () => {
    // JSON has no place for `undefined`: the line lacks the field, as it did then.
    const old = { ...started(0), cached_prompt_tokens: undefined } as unknown as JournalRecord
    rig.open().append([opened(0), old, progress(0, 3, 4)])
    rig.open()
    expect(rig.settledEvents()).toMatchObject([
      { prompt_tokens: 3, cached_prompt_tokens: 0, completion_tokens: 4, source: 'recovered' },
    ])
  })

  it('reads and goes on with a journal of format 1', () => {
    const old = join(import.meta.dirname, 'test', 'format-1')
    for (const name of ['epoch', ...[0, 1, 2].map((index) => segmentName(index))]) {
      rig.disk.writeFile(join(rig.directory, name), readFileSync(join(old, name)))
    }
    const journal = rig.open()
    expect(rig.alarms()).toBe('')
    expect(journal.epoch).toBe(2)
    expect(rig.settledEvents().map((event) => [event.request_id, event.completion_tokens])).toEqual(
      [0, 1, 2, 3, 4].map((n) => [`req_${n}`, 2 + n]),
    )
    expect(rig.settledEvents().filter(({ source }) => source === 'recovered')).toHaveLength(2)
    const formats = listSegments(rig.disk, rig.directory).map((index) => {
      return headOf(scanSegment(rig.disk.readFile(segmentPath(rig.directory, index))))?.format
    })
    expect(formats).toEqual([1, 1, 1, 2])
  })

  it('rotates by size, and knows from the newest segment alone what is open', () => {
    const journal = rig.open({ segmentBytesMax: 600 })
    journal.append([opened(0), started(0)])
    for (let tokens = 1; tokens <= 40; tokens++) journal.append([progress(0, 3, tokens)])
    const segments = listSegments(rig.disk, rig.directory)
    expect(segments.length).toBeGreaterThan(2)
    const last = segments.at(-1) ?? 0
    const copy = new JournalRig()
    copy.disk.writeFile(
      segmentPath(copy.directory, last),
      rig.disk.readFile(segmentPath(rig.directory, last)),
    )
    const next = copy.open({ shippedSegment: last })
    expect(next.recovery.open).toMatchObject([{ progress: [0, 3, 40, 400] }])
    expect(copy.settledEvents()).toMatchObject([{ completion_tokens: 40, source: 'recovered' }])
  })

  it('hands settled events out page by page across segments, each once', () => {
    const journal = rig.open({ segmentBytesMax: 700 })
    for (let n = 0; n < 25; n++) journal.append([opened(n), progress(n, 3, 1), settled(n, 1)])
    const seen: string[] = []
    let cursor = CURSOR_START
    for (;;) {
      const page = readSettled(rig.directory, cursor, 4, { disk: rig.disk })
      if (page.events.length === 0) break
      seen.push(...page.events.map(({ request_id }) => request_id))
      cursor = page.cursor
    }
    expect(seen).toEqual(Array.from({ length: 25 }, (_, n) => `req_${n}`))
    journal.append([opened(25), settled(25, 1)])
    expect(readSettled(rig.directory, cursor, 4, { disk: rig.disk }).events).toMatchObject([
      { request_id: 'req_25' },
    ])
  })

  it('numbers its starts upwards, whatever becomes of the file', () => {
    const path = join(rig.directory, 'epoch')
    const epochs = [rig.open().epoch, rig.open().epoch]
    rig.disk.unlink(path)
    epochs.push(rig.open().epoch)
    const bytes = rig.disk.readFile(path)
    for (let bit = 0; bit < bytes.length * 8; bit += 7) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      rig.disk.writeFile(path, flipped)
      epochs.push(rig.open().epoch)
    }
    rig.disk.writeFile(path, Buffer.alloc(0))
    epochs.push(rig.open().epoch)
    const [first = 0] = epochs
    expect(epochs).toEqual(epochs.map((_, start) => first + start))
  })

  it('begins beyond every epoch of a former life whose directory is lost', async () => {
    const journal = rig.open()
    for (let start = 0; start < 50; start++) rig.open()
    await rig.clock.advance(60_000)
    const emptied = new JournalRig()
    const { epoch } = emptied.open({ clock: rig.clock })
    expect(epoch).toBeGreaterThan(journal.epoch + 50)
  })
})

function segmentName(index: number): string {
  return segmentPath('', index)
}

describe('journal on the real disk', () => {
  let directory = ''
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'nozzle-journal-'))
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  function open(): Journal {
    return new Journal(journalOptions(directory))
  }
  const shipped = (): readonly UsageEvent[] => readSettled(directory, CURSOR_START, 10_000).events
  const writer = join(import.meta.dirname, '..', 'test', 'support', 'journal-writer.ts')

  it('loses no journalled token when the process is killed', async () => {
    const child = spawn(process.execPath, [writer, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let told = 0
    for await (const data of child.stdout) {
      const counts = String(data).trim().split('\n')
      told = Number(counts.at(-1))
      if (told > 200) break
    }
    child.kill('SIGKILL')
    await once(child, 'close')
    open().close()
    const [event] = shipped()
    expect(event?.source).toBe('recovered')
    // What was told was written before; at most the step that nobody was told of is more.
    expect(event?.completion_tokens).toBeGreaterThanOrEqual(told)
    const last = scanSegment(readFileSync(segmentPath(directory, 0))).records.at(-1)?.record
    expect(last).toMatchObject({
      t: 'progress',
      rows: [[0, 3, event?.completion_tokens, event?.gpu_us]],
    })
  })

  it('is refused while another process has it, hung or not, and to be had when that is gone', async () => {
    const child = spawn(process.execPath, [writer, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    child.kill('SIGSTOP')
    expect(open).toThrowError(expect.objectContaining({ code: 'journal_locked' }))
    child.stdout.resume()
    child.kill('SIGKILL')
    await once(child, 'exit')
    const journal = open()
    expect(open).toThrowError(expect.objectContaining({ code: 'journal_locked' }))
    journal.close()
    open().close()
  })

  it('is dumped as a JSON line for every settled event', async () => {
    const journal = open()
    journal.append([opened(0), settled(0, 7)])
    const { lines, exitCode } = await dump(directory)
    journal.close()
    expect(lines).toMatchObject([{ request_id: 'req_0', completion_tokens: 7 }])
    expect(exitCode).toBe(0)
  })

  it('is verified as it runs, and says where it is damaged', async () => {
    const journal = open()
    journal.append([opened(0), settled(0, 7), opened(1)])
    const sound = await dump('--verify', directory)
    journal.close()
    expect(sound.lines).toMatchObject([
      { segment: 0, format: 2, records: 4, events: 1, damage: [], open: 1 },
      { segments: 1, missing: [], set_aside: [], is_sound: true },
    ])
    expect(sound.exitCode).toBe(0)
    const path = segmentPath(directory, 0)
    writeFileSync(path, readFileSync(path, 'utf8').replace('"opened"', '"openeD"'))
    const damaged = await dump('--verify', directory)
    expect(damaged.lines).toMatchObject([
      { damage: [{ kind: 'unreadable' }, { kind: 'misplaced' }] },
      { is_sound: false },
    ])
    expect(damaged.exitCode).toBe(1)
    open().close()
    const recovered = await dump('--verify', directory)
    expect(recovered.lines.at(-1)).toMatchObject({
      set_aside: ['segment-0000000000.jsonl.damaged'],
      is_sound: false,
    })
    expect((await dump('--verify')).exitCode).toBe(2)
  })

  it('is not taken for empty where no journal is, or where its segments are gone', async () => {
    const nothing = { lines: [], exitCode: 3 }
    expect(await dump(directory)).toEqual(nothing)
    expect(await dump(join(directory, 'nowhere'))).toEqual(nothing)
    expect(await dump('--verify', directory)).toEqual(nothing)
    open().close()
    expect(await dump(directory)).toEqual({ lines: [], exitCode: 0 })
    rmSync(segmentPath(directory, 0))
    const gone = await dump('--verify', directory)
    expect(gone).toMatchObject({ lines: [{ segments: 0, is_sound: false }], exitCode: 1 })
  })

  async function dump(...args: string[]): Promise<{ lines: unknown[]; exitCode: number }> {
    const script = join(import.meta.dirname, 'dump.ts')
    const child = spawn(process.execPath, [script, ...args], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [output] = await Promise.all([text(child.stdout), once(child, 'exit')])
    const lines = output.split('\n').filter((line) => line !== '')
    return { lines: lines.map((line) => JSON.parse(line)), exitCode: child.exitCode ?? -1 }
  }
})
