import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { otherBaseNote } from './named-base.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-base-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function noteOf(text: string): string | null {
  const path = join(directory, 'adapter_config.json')
  writeFileSync(path, text)
  return otherBaseNote(path, 'smollm2-135m-instruct')
}

it('names both where an adapter says another base model than the pool has', () => {
  const note = noteOf(JSON.stringify({ base_model_name_or_path: 'meta-llama/Llama-3.1-8B' }))
  expect(note).toContain('meta-llama/Llama-3.1-8B')
  expect(note).toContain('smollm2-135m-instruct')
})

it.each([
  'HuggingFaceTB/SmolLM2-135M-Instruct',
  'smollm2-135m-instruct-q4_1',
  '/models/SmolLM2-135M-Instruct.gguf',
  './SmolLM2-135M-Instruct/',
  '',
])('says nothing of %j', (name) => {
  expect(noteOf(JSON.stringify({ base_model_name_or_path: name }))).toBeNull()
})

it.each(['{', 'null', '{"base_model_name_or_path": 7}', '[]'])(
  'leaves %s to those who read the adapter',
  (text) => expect(noteOf(text)).toBeNull(),
)
