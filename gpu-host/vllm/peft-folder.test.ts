import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import {
  convert,
  VECTOR_ADAPTERS,
  VECTOR_BASE,
  vectorDirectory,
} from '../adapters/test/support/vectors.ts'
import type { AdapterImage } from '../engine.ts'
import { writePeftFolder } from './peft-folder.ts'

const scratch = mkdtempSync(join(tmpdir(), 'nozzle-peft-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** Rows of q and k stay as PEFT has them. */
const BASE = { ...VECTOR_BASE, architecture: 'LlamaForCausalLM' }

/** What each module adds to its layer, scale × B × A, by layer and target. */
function productsOf({ manifest, payload }: AdapterImage): Map<string, number[]> {
  return new Map(
    manifest.modules.map(({ layer, target, n_in, n_out, rank, a_offset, b_offset, scale }) => {
      const a = new Float16Array(payload.buffer, payload.byteOffset + a_offset, rank * n_in)
      const bt = new Float16Array(payload.buffer, payload.byteOffset + b_offset, rank * n_out)
      const product = Array.from({ length: n_out * n_in }, (_, index) => {
        const [row, column] = [Math.floor(index / n_in), index % n_in]
        let sum = 0
        for (let r = 0; r < rank; r += 1) {
          sum += (bt[r * n_out + row] ?? 0) * (a[r * n_in + column] ?? 0)
        }
        return sum * scale
      })
      return [`${layer} ${target}`, product]
    }),
  )
}

describe('the folder that vLLM reads', () => {
  for (const name of VECTOR_ADAPTERS) {
    it(`adds what the uploaded adapter adds (${name})`, async () => {
      const image = await convert(vectorDirectory(name), BASE)
      const folder = join(scratch, name)
      await writePeftFolder(folder, image)
      const again = await convert(folder, BASE)
      const [expected, actual] = [productsOf(image), productsOf(again)]
      expect([...actual.keys()]).toEqual([...expected.keys()])
      const { modules } = image.manifest
      const isUniform = new Set(modules.map(({ scale }) => scale)).size === 1
      for (const [module, values] of expected) {
        const found = actual.get(module) ?? []
        // B is rounded once more where modules have scales of their own.
        const largest = Math.max(...values.map(Math.abs))
        const tolerance = largest * (isUniform ? 1e-6 : 2 ** -10)
        const worst = Math.max(...values.map((value, i) => Math.abs(value - (found[i] ?? 0))))
        expect(worst).toBeLessThanOrEqual(tolerance)
      }
    })
  }

  it('asks of a server for nothing but one rank and one scale', async () => {
    const image = await convert(vectorDirectory('patterns'), BASE)
    const folder = join(scratch, 'config')
    await writePeftFolder(folder, image)
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'))
    expect(config).toMatchObject({ r: 6, peft_type: 'LORA' })
    expect(Object.keys(config)).not.toContain('rank_pattern')
  })
})
