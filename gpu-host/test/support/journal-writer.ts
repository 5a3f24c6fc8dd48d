/**
 * Child process of the crash test: journals one token after the other, telling each once written.
 */
import { writeSync } from 'node:fs'
import { systemClock } from '../../clock.ts'
import { Journal } from '../../journal/journal.ts'

const journal = new Journal({
  directory: process.argv[2] ?? '',
  hostId: 'hst_child',
  clock: systemClock,
  log: () => {},
  segmentBytesMax: 1e9,
  totalBytesMax: 1e9,
  retentionMs: 1e12,
  fsyncIntervalMs: 100,
  shippedSegment: 0,
})
const request = {
  request_id: 'req_child',
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
journal.append([{ t: 'opened', n: 0, at: new Date().toISOString(), request }])
for (let tokens = 1; tokens < 1_000_000; tokens++) {
  journal.append([{ t: 'progress', rows: [[0, 3, tokens, 0]] }])
  writeSync(1, `${tokens}\n`)
}
