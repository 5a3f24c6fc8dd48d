/**
 * The engine's numbers are libllama's on what is really served: the base model of a first start,
 * and the example adapters as their deploy converts them. Each is compared while it shares steps
 * with all the others, and its bits are the ones that it gets alone.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { convert, VECTOR_RANK_MAX } from '../gpu-host/adapters/test/support/vectors.ts'
import type { AdapterImage } from '../gpu-host/engine.ts'
import { NativeEngine } from '../native/index.ts'
import { referenceLogits } from '../native/test/support/llama-reference.ts'
import { firstDifference, logSoftmax, relativeError } from '../native/test/support/logprobs.ts'
import { runTogether, type TestRequest, type Trace } from '../native/test/support/requests.ts'
import { writeAdapterGguf } from '../native/test/support/synthetic-adapter.ts'
import { REAL_TOLERANCE } from '../native/test/support/tolerances.ts'
import { describeOnBaseModel } from './support/base-model.ts'
import { requireBaseModel } from './support/base-model-path.ts'
import { adapterDirectory, caseOf, EXAMPLE_TASKS } from './support/tasks.ts'

const DRAW_COUNT = 16
const BASE = 'base'
/** In slot order. */
const MODELS = [BASE, ...EXAMPLE_TASKS] as const
type Model = (typeof MODELS)[number]

/**
 * libllama multiplies by alpha/rank, one alpha for the whole file: the one that gives the adapter's
 * own factor, which with rsLoRA is alpha/√rank.
 */
function withPlainAlpha({ manifest, payload }: AdapterImage): AdapterImage {
  const alphas = new Set(manifest.modules.map(({ scale, rank }) => scale * rank))
  const [alpha = 0] = alphas
  if (alphas.size !== 1) throw new Error('the modules differ in alpha')
  return { manifest: { ...manifest, alpha }, payload }
}

describeOnBaseModel('logits of the real base model', () => {
  let folder = ''
  const adapterPath = (model: Model) => (model === BASE ? null : join(folder, `${model}.gguf`))
  let engine: NativeEngine
  let requests: TestRequest[] = []
  let mixed: Trace[] = []

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'nozzle-parity-'))
    engine = await NativeEngine.open({
      modelPath: requireBaseModel(),
      modelName: 'real',
      device: 'cpu',
      slotCount: EXAMPLE_TASKS.length,
      rankMax: VECTOR_RANK_MAX,
      sequenceCount: MODELS.length,
      contextLength: 256,
      rowsMax: 512,
      threads: 1,
    })
    for (const [index, task] of EXAMPLE_TASKS.entries()) {
      const image = await convert(adapterDirectory(task), engine.info)
      writeAdapterGguf(join(folder, `${task}.gguf`), withPlainAlpha(image))
      await engine.loadSlot(index + 1, image)
    }
    const { prompt } = caseOf('ticket-triage')
    const tokens = engine.tokenize(prompt, { addSpecial: true, parseSpecial: false })
    requests = MODELS.map((_, slot) => ({
      prompt: [...tokens],
      slot,
      drawCount: DRAW_COUNT,
      outputs: 'newest',
    }))
    mixed = await runTogether(engine, requests)
  })
  afterAll(async () => {
    await engine?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const traceOf = (model: Model): Trace =>
    mixed[MODELS.indexOf(model)] ?? expect.fail(`${model} did not run`)

  it.each(MODELS)('agree with libllama for %s, all in one step', async (model) => {
    const trace = traceOf(model)
    const prompt = requests[0]?.prompt ?? []
    const logits = await referenceLogits({
      modelPath: requireBaseModel(),
      adapterPath: adapterPath(model),
      tokens: [...prompt, ...trace.tokens.slice(0, -1)],
      vocabularySize: engine.info.vocabularySize,
    })
    const drawn = logits.slice(prompt.length - 1)
    expect(trace.rows).toHaveLength(DRAW_COUNT)
    expect(drawn).toHaveLength(DRAW_COUNT)
    const errors = drawn.map((row, at) => relativeError(trace.rows[at] ?? [], logSoftmax(row)))
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
    expect(Math.max(...errors)).toBeLessThan(REAL_TOLERANCE.libllama)
    expect(mean).toBeLessThan(REAL_TOLERANCE.libllamaMean)
  })

  it('are the same alone as in a mixed step, to the bit', async () => {
    for (const [slot, request] of requests.entries()) {
      const [alone] = await runTogether(engine, [request])
      expect(alone?.tokens).toEqual(mixed[slot]?.tokens)
      expect(firstDifference(alone?.rows ?? [], mixed[slot]?.rows ?? [])).toBeNull()
    }
  })

  it('differ between any two models by more than the tolerance', () => {
    for (const model of MODELS) {
      for (const other of MODELS.slice(MODELS.indexOf(model) + 1)) {
        const [row, otherRow] = [traceOf(model).rows[0], traceOf(other).rows[0]]
        const difference = relativeError(row ?? [], otherRow ?? new Float32Array())
        expect(difference, `${model} and ${other}`).toBeGreaterThan(2 * REAL_TOLERANCE.libllama)
      }
    }
  })
})
