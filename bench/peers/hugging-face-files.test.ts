/** The Hugging Face and PEFT files hold the numbers of the GGUF and of the pack. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { convert } from '../../gpu-host/adapters/test/support/vectors.ts'
import { createSyntheticAdapter } from '../../native/test/support/synthetic-adapter.ts'
import { syntheticTensors, TINY } from '../../native/test/support/synthetic-gguf.ts'
import { ensureHuggingFaceModel, writePeftAdapter } from './hugging-face-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'nozzle-peers-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

it('a PEFT adapter comes back from the intake as the pack that it was written from', async () => {
  const adapter = createSyntheticAdapter(TINY, { seed: 5, rank: 4, alpha: 8 })
  const directory = join(scratch, 'peft')
  writePeftAdapter(directory, adapter, TINY)
  const base = { ...TINY, baseModel: 'tiny', baseDigest: adapter.manifest.base_digest }
  const pack = await convert(directory, { ...base, architecture: 'llama' })
  expect(pack.manifest.modules).toEqual(adapter.manifest.modules)
  expect(Buffer.from(pack.payload).equals(Buffer.from(adapter.payload))).toBe(true)
})

it('the BF16 weights are the GGUF’s, rounded, with the rows of q and k set apart', () => {
  const directory = ensureHuggingFaceModel(join(scratch, 'model'), TINY)
  const file = readFileSync(join(directory, 'model.safetensors'))
  const dataStart = 8 + Number(file.readBigUInt64LE())
  const header = JSON.parse(file.toString('utf8', 8, dataStart))
  const n = TINY.embeddingLength
  for (const [name, ggufName, rowOf] of [
    ['model.embed_tokens', 'token_embd', (row: number) => row],
    ['model.layers.1.mlp.up_proj', 'blk.1.ffn_up', (row: number) => row],
    // Heads of 16 rows: row 9 is the second half's second, which GGUF interleaves to row 3.
    ['model.layers.1.self_attn.q_proj', 'blk.1.attn_q', (row: number) => (row === 9 ? 3 : row)],
  ] as const) {
    const source = syntheticTensors(TINY).find((tensor) => tensor.name === `${ggufName}.weight`)
    const bytes = Buffer.concat([...(source?.chunks() ?? [])].map((chunk) => Buffer.from(chunk)))
    const [begin] = header[`${name}.weight`].data_offsets
    for (const row of [0, 9, 15]) {
      for (let column = 0; column < n; column++) {
        const bits = file.readUInt16LE(dataStart + begin + 2 * (row * n + column))
        const written = Buffer.alloc(4)
        written.writeUInt32LE(bits * 0x1_0000)
        const exact = bytes.readFloatLE(4 * (rowOf(row) * n + column))
        expect(Math.abs(written.readFloatLE() - exact)).toBeLessThanOrEqual(Math.abs(exact) / 256)
      }
    }
  }
})
