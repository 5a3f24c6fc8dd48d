/** Planted bugs of the host: what it hands over, settles and journals. */
import type { PlantedBug } from './planted-bug.ts'

export const HOST_BUGS: readonly PlantedBug[] = [
  {
    name: 'journal-after-send',
    harm: 'a crash between the two gives tokens away',
    file: 'gpu-host/scheduler/hand-over.ts',
    from: `    try {
      this.#append([
        ...started.map((owner) => toStarted(owner, nowUs)),
        ...toProgress(progressed),
        ...settlements.map(({ record }) => record),
      ])
    } catch (error) {
      for (const [owner, { tokens }] of taken) owner.handedOverTokens -= tokens
      this.#fail(new Set([...progressed, ...ending, ...whole]), error)
      return
    }
    for (const { owner, chunk } of chunks) owner.buffer.push(chunk)`,
    to: `    for (const { owner, chunk } of chunks) owner.buffer.push(chunk)
    try {
      this.#append([
        ...started.map((owner) => toStarted(owner, nowUs)),
        ...toProgress(progressed),
        ...settlements.map(({ record }) => record),
      ])
    } catch (error) {
      for (const [owner, { tokens }] of taken) owner.handedOverTokens -= tokens
      this.#fail(new Set([...progressed, ...ending, ...whole]), error)
      return
    }`,
    tests: ['gpu-host/scheduler/hand-over.test.ts', 'gpu-host/scheduler/scheduler.test.ts'],
  },
  {
    name: 'settled-before-hand-over',
    harm: 'a client that leaves before its last chunks pays for them',
    file: 'gpu-host/scheduler/hand-over.ts',
    from: 'owner.finish !== null && !owner.buffer.hasChunks',
    to: 'owner.finish !== null',
    tests: ['gpu-host/scheduler/hand-over.test.ts'],
  },
  {
    name: 'settled-at-first-choice',
    harm: 'of many choices that end in one step, all but one are given away',
    file: 'gpu-host/scheduler/hand-over.ts',
    from: 'owner.finish !== null && countOf(chunks, owner) === 1',
    to: 'owner.finish !== null',
    tests: ['gpu-host/scheduler/hand-over.test.ts'],
  },
  {
    name: 'broken-piece-charged',
    harm: 'a reply in one piece that broke off is paid for, though nobody got any of it',
    file: 'gpu-host/scheduler/live-request.ts',
    from: "this.request.is_whole && this.order?.finish === 'abort'",
    to: 'false',
    tests: ['gpu-host/scheduler/hand-over.test.ts'],
  },
  {
    name: 'delivered-count-ignored',
    harm: 'a client that left pays for what its edge never passed on',
    file: 'gpu-host/scheduler/attempt-book.ts',
    from: '        completion_tokens: cancel.delivered_tokens,\n',
    to: '',
    tests: ['gpu-host/scheduler/hand-over.test.ts'],
  },
  {
    name: 'attempt-runs-twice',
    harm: 'a call that the network doubled is generated, and paid for, twice',
    file: 'gpu-host/scheduler/attempt-book.ts',
    from: 'if (attempt > seen) return',
    to: 'if (attempt >= seen) return',
    tests: ['gpu-host/scheduler/hand-over.test.ts'],
  },
  {
    name: 'grant-without-body-hash',
    harm: 'whoever sees a grant can have another body run on it, at the cost of its tenant',
    file: 'gpu-host/grants.ts',
    from: 'if (granted.length === actual.length &&',
    to: 'if (granted.length === 0 || granted.length === actual.length &&',
    tests: ['gpu-host/test/host.test.ts'],
  },
]

export const JOURNAL_BUGS: readonly PlantedBug[] = [
  {
    name: 'ending-by-handle',
    harm: 'after damage a request is taken for ended that was not, and is never billed',
    file: 'gpu-host/journal/open-requests.ts',
    from: 'if (isOf(this.#byHandle.get(n))) {',
    to: 'if (this.#byHandle.has(n)) {',
    tests: ['gpu-host/journal/open-requests.test.ts'],
  },
  {
    name: 'progress-summed',
    harm: 'running totals are added up: a crash bills a request many times over',
    file: 'gpu-host/journal/open-requests.ts',
    from: 'return isBehind ? entry : { ...entry, progress: row }',
    to: `const sum = row[2] + completionTokens
      return isBehind ? entry : { ...entry, progress: [row[0], row[1], sum, row[3]] }`,
    tests: ['gpu-host/journal/journal.test.ts'],
  },
  {
    name: 'recovered-at-zero',
    harm: 'every request that a crash ends is free',
    file: 'gpu-host/journal/settle-recovered.ts',
    from: '      completionTokens,\n      gpuUs,',
    to: '      completionTokens: completionTokens * 0,\n      gpuUs,',
    tests: ['gpu-host/journal/journal.test.ts'],
  },
  {
    name: 'damage-skipped-silently',
    harm: 'records that a bad disk ate are missed by nobody',
    file: 'gpu-host/journal/segment.ts',
    from: '    damaged: damage.length > 0,',
    to: '    damaged: false,',
    tests: ['gpu-host/journal/damage.test.ts'],
  },
  {
    name: 'records-read-where-they-lie',
    harm: 'a line that a bad disk wrote twice opens again what was settled: billed in two ways',
    file: 'gpu-host/journal/segment.ts',
    from: '  if (!damaged) return records.map(',
    to: '  if (damaged || !damaged) return records.map(',
    tests: ['gpu-host/journal/damage.test.ts'],
  },
  {
    name: 'fsync-error-ignored',
    harm: 'what the kernel dropped is taken for safe, and lost with the next power cut',
    file: 'gpu-host/journal/group-fsync.ts',
    from: `      if (error !== null) this.#fail(error)
      else {`,
    to: '      {',
    tests: ['gpu-host/journal', 'bench/fault.test.ts'],
  },
  {
    name: 'shipped-before-durable',
    harm: 'a power cut leaves a ledger that no journal can account for',
    file: 'gpu-host/telemetry/usage-outbox.ts',
    from: '        until: durable(),\n',
    to: '',
    tests: ['bench/fault.test.ts'],
  },
  {
    name: 'acknowledged-before-answer',
    harm: 'a batch whose call failed is never sent again',
    file: 'gpu-host/telemetry/usage-outbox.ts',
    from: '      if (page.events.length > 0) {\n        const batch',
    to: `      await this.#acknowledge(page.cursor, page.events.length > 0)
      if (page.events.length > 0) {
        const batch`,
    tests: ['bench/fault.test.ts'],
  },
]
