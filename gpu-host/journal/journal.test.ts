import { execFile, spawn } from 'node:child_process'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { UsageEvent } from '../protocol.ts'
import { VirtualClock } from '../test/support/virtual-clock.ts'
import { type Disk, nodeDisk } from './disk.ts'
import { Journal, type JournalOptions } from './journal.ts'
import type { JournalRecord, RequestFacts, SettledRecord } from './record.ts'
import { listSegments, scanSegment, segmentPath } from './segment.ts'
import { CURSOR_START, readSettled } from './settled-reader.ts'

let directory = ''
const logged: string[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-journal-'))
  logged.length = 0
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Without the lock: a journal that was not closed stands for a process that died. */
const unlocked: Disk = { ...nodeDisk, lock: () => () => {} }

function open(overrides: Partial<JournalOptions> = {}): Journal {
  return new Journal({
    directory,
    hostId: 'hst_test',
    clock: new VirtualClock(),
    log: (level, message) => logged.push(`${level}: ${message}`),
    segmentBytesMax: 1e6,
    totalBytesMax: 1e9,
    retentionMs: 1e12,
    fsyncIntervalMs: 100,
    shippedSegment: 0,
    disk: unlocked,
    ...overrides,
  })
}

const AT = '2026-01-01T00:00:00.000Z'

function facts(n: number): RequestFacts {
  return {
    request_id: `req_${n}`,
    attempt: 1,
    tenant_id: 'ten_a',
    key_id: null,
    model: 'm',
    model_id: null,
    adapter_version_id: null,
    adapter_digest: null,
    base_model: 'base',
    price_version_id: null,
    lease_ids: [],
  }
}

const opened = (n: number): JournalRecord => ({ t: 'opened', n, at: AT, request: facts(n) })
const started = (n: number): JournalRecord => ({
  t: 'started',
  n,
  queue_us: 5,
  ttft_us: 9,
  swap_us: 2,
  adapter_bytes: 9_800_000,
  source: 'ram',
  cached_prompt_tokens: 2,
})
const progress = (n: number, prompt: number, completion: number): JournalRecord => ({
  t: 'progress',
  rows: [[n, prompt, completion, completion * 10]],
})
function settled(n: number, completion: number): SettledRecord {
  const event: UsageEvent = {
    ...facts(n),
    host_id: 'hst_test',
    epoch: 1,
    prompt_tokens: 3,
    cached_prompt_tokens: 0,
    completion_tokens: completion,
    finish_reason: 'stop',
    gpu_us: 1,
    queue_us: 1,
    ttft_us: 1,
    swap_us: 0,
    adapter_bytes: 0,
    adapter_source: 'none',
    started_at: AT,
    ended_at: AT,
    source: 'engine',
  }
  return { t: 'settled', n, code: null, event }
}

const shipped = (from = directory): readonly UsageEvent[] =>
  readSettled(from, CURSOR_START, 10_000).events

describe('journal', () => {
  it('closes what a crash left open at its last progress', () => {
    const journal = open()
    journal.append([opened(0), opened(1), opened(2)])
    journal.append([started(0), progress(0, 3, 1)])
    journal.append([progress(0, 3, 7), progress(1, 2, 0)])
    journal.append([settled(2, 4)])
    const next = open()
    expect(next.epoch).toBe(journal.epoch + 1)
    expect(next.openCount).toBe(0)
    const events = shipped()
    expect(events.map(({ request_id }) => request_id)).toEqual(['req_2', 'req_0'])
    expect(events[1]).toMatchObject({
      source: 'recovered',
      finish_reason: 'error',
      prompt_tokens: 3,
      cached_prompt_tokens: 2,
      completion_tokens: 7,
      swap_us: 2,
      adapter_bytes: 9_800_000,
      gpu_us: 70,
      ttft_us: 9,
      epoch: 2,
    })
    expect(open().recovery.open).toEqual([])
    expect(shipped()).toHaveLength(2)
  })

  it('keeps every record before a tail that is torn at any byte', () => {
    const journal = open()
    journal.append([opened(0), started(0), progress(0, 3, 1), progress(0, 3, 2)])
    const path = segmentPath(directory, 0)
    const whole = readFileSync(path)
    const lastStart = whole.lastIndexOf(10, whole.length - 2) + 1
    for (let length = lastStart; length < whole.length; length++) {
      rmSync(directory, { recursive: true })
      mkdirSync(directory)
      writeFileSync(path, whole.subarray(0, length))
      const next = open()
      expect(next.recovery.salvaged).toEqual([])
      expect(readFileSync(path)).toEqual(whole.subarray(0, lastStart))
      expect(shipped()).toMatchObject([{ request_id: 'req_0', completion_tokens: 1 }])
      next.close()
    }
  })

  it('detects each flipped bit', () => {
    const journal = open()
    journal.append([opened(0), progress(0, 3, 1), settled(0, 1)])
    const bytes = readFileSync(segmentPath(directory, 0))
    expect(scanSegment(bytes).damaged).toBe(false)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const scan = scanSegment(flipped)
      // A flip of the last newline makes the last record torn; any other is damage.
      expect(scan.damaged || scan.tornBytes > 0).toBe(true)
    }
  })

  it('detects a record that was lost, doubled or moved', () => {
    const journal = open()
    journal.append([opened(0), progress(0, 3, 1), progress(0, 3, 2), settled(0, 2)])
    const lines = readFileSync(segmentPath(directory, 0), 'utf8').trimEnd().split('\n')
    const [head = '', a = '', b = '', c = '', d = ''] = lines
    for (const wrong of [
      [head, a, c, d],
      [head, a, b, b, c, d],
      [head, a, c, b, d],
    ]) {
      expect(scanSegment(Buffer.from(`${wrong.join('\n')}\n`)).damaged).toBe(true)
    }
    expect(scanSegment(Buffer.from(`${lines.join('\n')}\n`)).damaged).toBe(false)
  })

  it('sets a damaged segment aside, loudly, and keeps what is readable', () => {
    const journal = open()
    journal.append([opened(0), opened(1), progress(0, 3, 1), progress(0, 3, 5), settled(1, 2)])
    const path = segmentPath(directory, 0)
    const text = readFileSync(path, 'utf8')
    writeFileSync(path, text.replace('[0,3,1,10]', '[0,3,1,99]'))
    const next = open()
    expect(next.recovery.salvaged).toEqual([0])
    expect(logged.join()).toMatch(/error: journal segment is damaged/)
    expect(existsSync(`${path}.damaged`)).toBe(true)
    expect(shipped()).toMatchObject([
      { request_id: 'req_1', completion_tokens: 2 },
      { request_id: 'req_0', completion_tokens: 5, source: 'recovered' },
    ])
    expect(open().recovery.salvaged).toEqual([])
  })

  it('reads the journals of before the prefix cache', () => {
    // JSON has no place for `undefined`: the line lacks the field, as it did then.
    const old = { ...started(0), cached_prompt_tokens: undefined } as unknown as JournalRecord
    open().append([opened(0), old, progress(0, 3, 4)])
    open()
    expect(shipped()).toMatchObject([
      { prompt_tokens: 3, cached_prompt_tokens: 0, completion_tokens: 4, source: 'recovered' },
    ])
  })

  it('rotates by size, and knows from the newest segment alone what is open', () => {
    const journal = open({ segmentBytesMax: 600 })
    journal.append([opened(0), started(0)])
    for (let tokens = 1; tokens <= 40; tokens++) journal.append([progress(0, 3, tokens)])
    const segments = listSegments(nodeDisk, directory)
    expect(segments.length).toBeGreaterThan(2)
    const last = segments.at(-1) ?? 0
    const copy = join(directory, 'copy')
    mkdirSync(copy)
    copyFileSync(segmentPath(directory, last), segmentPath(copy, last))
    const next = open({ directory: copy, shippedSegment: last })
    expect(next.recovery.open).toMatchObject([{ progress: [0, 3, 40, 400] }])
    expect(shipped(copy)).toMatchObject([{ completion_tokens: 40, source: 'recovered' }])
  })

  it('notices that a whole segment is missing', () => {
    const journal = open({ segmentBytesMax: 300 })
    for (let n = 0; n < 6; n++) journal.append([opened(n), settled(n, 1)])
    rmSync(segmentPath(directory, 1))
    open()
    expect(logged.join()).toMatch(/records are missing/)
  })

  it('keeps nothing of a write that fails, and goes on when there is room again', () => {
    let room = Number.POSITIVE_INFINITY
    const write: Disk['write'] = (fd, bytes) => {
      if (room < bytes.length) {
        appendFileSync(fd, bytes.subarray(0, room))
        throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
      }
      appendFileSync(fd, bytes)
      return bytes.length
    }
    const journal = open({ disk: { ...unlocked, write } })
    journal.append([opened(0)])
    room = 10
    expect(() => journal.append([progress(0, 3, 1), settled(0, 1)])).toThrowError(
      expect.objectContaining({ code: 'journal_full' }),
    )
    room = Number.POSITIVE_INFINITY
    journal.append([progress(0, 3, 1)])
    const scan = scanSegment(readFileSync(segmentPath(directory, 0)))
    expect(scan).toMatchObject({ damaged: false, tornBytes: 0 })
    expect(scan.records.map(({ record }) => record.t)).toEqual(['segment', 'opened', 'progress'])
  })

  it('refuses requests when full, and removes only what is shipped', () => {
    const journal = open({ segmentBytesMax: 500, totalBytesMax: 2600 })
    for (let n = 0; n < 6; n++) journal.append([opened(n), settled(n, 1)])
    expect(() => journal.assertRoom()).toThrowError(
      expect.objectContaining({ code: 'journal_full' }),
    )
    expect(shipped()).toHaveLength(6)
    journal.setShippedSegment(4)
    journal.assertRoom()
    expect(listSegments(nodeDisk, directory)[0]).toBeGreaterThan(0)
    expect(journal.bytes).toBeLessThan(2600)
  })

  it('hands settled events out page by page across segments, each once', () => {
    const journal = open({ segmentBytesMax: 700 })
    for (let n = 0; n < 25; n++) journal.append([opened(n), progress(n, 3, 1), settled(n, 1)])
    const seen: string[] = []
    let cursor = CURSOR_START
    for (;;) {
      const page = readSettled(directory, cursor, 4)
      if (page.events.length === 0) break
      seen.push(...page.events.map(({ request_id }) => request_id))
      cursor = page.cursor
    }
    expect(seen).toEqual(Array.from({ length: 25 }, (_, n) => `req_${n}`))
    journal.append([opened(25), settled(25, 1)])
    expect(readSettled(directory, cursor, 4).events).toMatchObject([{ request_id: 'req_25' }])
  })

  it('loses no journalled token when the process is killed', async () => {
    const script = join(import.meta.dirname, '..', 'test', 'support', 'journal-writer.ts')
    const child = spawn(process.execPath, [script, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let told = 0
    for await (const data of child.stdout) {
      const counts = String(data).trim().split('\n')
      told = Number(counts.at(-1))
      if (told > 200) break
    }
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('close', resolve))
    open()
    const [event] = shipped()
    expect(event?.source).toBe('recovered')
    // What was told was written before; at most the step that nobody was told of is more.
    expect(event?.completion_tokens).toBeGreaterThanOrEqual(told)
    const last = scanSegment(readFileSync(segmentPath(directory, 0))).records.at(-1)?.record
    expect(last).toMatchObject({ t: 'progress', rows: [[0, 3, event?.completion_tokens, 0]] })
  })
})

describe('journal dump', () => {
  it('prints every settled event as a JSON line', async () => {
    const journal = open()
    journal.append([opened(0), settled(0, 7)])
    const script = join(import.meta.dirname, 'dump.ts')
    const { stdout } = await promisify(execFile)(process.execPath, [script, directory])
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toMatchObject([{ request_id: 'req_0', completion_tokens: 7 }])
  })
})
