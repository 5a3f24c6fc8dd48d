/**
 * A vLLM server as a host serves with it: finds the server, learns what it serves, and puts the
 * parts of this folder together.
 */
import type { AdapterTarget } from '../adapters/base-shape.ts'
import { type Clock, sleep } from '../clock.ts'
import type { HostConfig } from '../config.ts'
import type { Engine } from '../engine.ts'
import { HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import type { ServingEngine } from '../serving-engine.ts'
import { readBaseFolder } from './base-folder.ts'
import { VllmClient, type VllmModel } from './vllm-client.ts'
import { VllmError } from './vllm-errors.ts'
import { VllmLoras } from './vllm-loras.ts'
import { VllmRunner } from './vllm-runner.ts'
import type { VllmSettings } from './vllm-settings.ts'
import { VllmWatch } from './vllm-watch.ts'

export interface OpenedVllm {
  readonly serving: ServingEngine
  /** Where the adapter tiers load to. */
  readonly slots: AdapterTarget & Pick<Engine, 'loadSlot' | 'clearSlot'>
  /** One line: the server and what it serves. */
  readonly summary: string
}

export interface OpenVllmOptions {
  readonly vllm: VllmSettings
  readonly engine: HostConfig['engine']
  readonly clock: Clock
  readonly log: Log
  readonly fetch: typeof globalThis.fetch
}

const LOOK_INTERVAL_MS = 1000

/** Rejects with `invalid_request` for settings that do not fit, `engine_failed` for the server. */
export async function openVllm(options: OpenVllmOptions): Promise<OpenedVllm> {
  const { vllm, engine, log } = options
  const base = await readBaseFolder(engine.modelPath)
  const client = new VllmClient({ ...options, ...vllm })
  const models = await waitForModels(client, options)
  const { model, contextLength } = pickBase(models, vllm.model)
  const loras = new VllmLoras({
    info: { ...base.shape, baseModel: engine.modelName, baseDigest: base.digest },
    // A rank that the server takes is one that it has room for.
    limits: {
      slotCount: vllm.cpuLoras,
      slotBytes: Number.MAX_SAFE_INTEGER,
      rankMax: engine.rankMax,
    },
    client,
    log,
    directory: vllm.loraDirectory,
    serverDirectory: vllm.serverLoraDirectory,
  })
  await assertLoadsAdapters(client)
  await loras.clean(models)
  const watch = new VllmWatch({ ...options, client, loras })
  watch.start()
  return {
    slots: loras,
    summary: `vLLM at ${vllm.url}: ${model}, ${contextLength} tokens of context`,
    serving: {
      kind: 'vllm',
      baseModel: engine.modelName,
      baseDigest: base.digest,
      contextLength,
      createRunner: (parts) =>
        new VllmRunner({
          ...parts,
          client,
          loras,
          watch,
          model,
          contextLength,
          vocabularySize: base.vocabularySize,
          sequenceCount: engine.sequenceCount,
          slotCount: engine.slotCount,
          placeCount: vllm.cpuLoras,
        }),
      close: async () => {
        await watch.stop()
        await loras.settled()
      },
    },
  }
}

/** The server may be starting too. */
async function waitForModels(
  client: VllmClient,
  { clock, log, vllm }: OpenVllmOptions,
): Promise<readonly VllmModel[]> {
  const untilMs = clock.nowMs() + vllm.startWaitMs
  for (let looks = 0; ; looks += 1) {
    try {
      return await client.models()
    } catch (error) {
      const isAway = error instanceof VllmError && error.failure === 'unreachable'
      if (!isAway || clock.nowMs() >= untilMs) {
        throw new HostError('engine_failed', `${vllm.url}: ${errorText(error)}`, { cause: error })
      }
      if (looks === 0) log('info', 'waiting for the vLLM server', { url: vllm.url })
      await sleep(clock, LOOK_INTERVAL_MS)
    }
  }
}

function pickBase(
  models: readonly VllmModel[],
  wanted: string | null,
): { readonly model: string; readonly contextLength: number } {
  const bases = models.filter(({ parent }) => parent == null)
  const names = bases.map(({ id }) => id).join(', ')
  const base = wanted === null ? bases[0] : bases.find(({ id }) => id === wanted)
  if (base === undefined || (wanted === null && bases.length > 1)) {
    const fix = `set NOZZLE_VLLM_MODEL to one of its base models: ${names}`
    throw new HostError('invalid_request', `which model of the vLLM server? ${fix}`)
  }
  if (base.max_model_len == null) {
    throw new HostError('engine_failed', `the server does not say max_model_len of ${base.id}`)
  }
  return { model: base.id, contextLength: base.max_model_len }
}

/** A name that nothing has: a server that loads adapters at run time says that it lacks it. */
async function assertLoadsAdapters(client: VllmClient): Promise<void> {
  try {
    await client.unloadLora('nozzle-none')
  } catch (error) {
    const fix = 'start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True'
    const message = `the vLLM server takes no adapters at run time; ${fix}`
    throw new HostError('engine_failed', message, { cause: error })
  }
}
