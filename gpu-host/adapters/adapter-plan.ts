/**
 * Config + tensor headers + base model → the modules of a pack, before a single weight is read.
 * Every module that the config targets must have both halves in exactly the base model's shape and
 * the config's rank, and no tensor may be left over. The event loop gets a turn between layers,
 * since a config may hold many patterns to match.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { adapterInvalid } from './adapter-invalid.ts'
import { TARGET_MODULES, type TargetModule } from './adapter-pack.ts'
import { type BaseShape, peftModuleName, targetSizes } from './base-shape.ts'
import { type ModuleLora, moduleLora, type PeftConfig } from './peft-config.ts'
import { groupPairs, type LoraPair, pairKey, tensorName } from './peft-tensors.ts'
import type { Tensor } from './safetensors-reader.ts'

export interface PlannedModule {
  readonly layer: number
  readonly target: TargetModule
  readonly nIn: number
  readonly nOut: number
  readonly rank: number
  readonly scale: number
  /** [rank, nIn] */
  readonly a: Tensor
  /** [nOut, rank] */
  readonly b: Tensor
}

/** In slot order. Rejects with `adapter_invalid`. */
export async function planModules(
  config: PeftConfig,
  tensors: ReadonlyMap<string, Tensor>,
  base: BaseShape,
  rankMax: number,
): Promise<readonly PlannedModule[]> {
  const pairs = groupPairs(tensors.values(), base.layerCount)
  const modules: PlannedModule[] = []
  for (const { layer, target, lora } of await targetedModules(config, base)) {
    const key = pairKey(layer, target)
    checkRank(config, lora, rankMax)
    modules.push(planModule(layer, target, lora, pairs.get(key) ?? {}, base))
    pairs.delete(key)
  }
  const [untargeted] = pairs.values()
  if (untargeted !== undefined) throw refuseUntargeted(untargeted)
  return modules
}

async function targetedModules(
  config: PeftConfig,
  base: BaseShape,
): Promise<{ layer: number; target: TargetModule; lora: ModuleLora }[]> {
  const modules = []
  for (let layer = 0; layer < base.layerCount; layer += 1) {
    for (const target of TARGET_MODULES) {
      const lora = moduleLora(config, layer, peftModuleName(layer, target))
      if (lora !== null) modules.push({ layer, target, lora })
    }
    await nextTurn()
  }
  if (modules.length > 0) return modules
  throw adapterInvalid('config', 'target_modules', 'matches no layer of the base model')
}

function checkRank(config: PeftConfig, { rank }: ModuleLora, rankMax: number): void {
  if (rank <= rankMax) return
  const fix = 'train with a lower rank, or raise NOZZLE_RANK_MAX on the hosts'
  const field = rank === config.rank ? 'r' : 'rank_pattern'
  throw adapterInvalid(
    'config',
    field,
    `is ${rank}; this host serves ranks up to ${rankMax}; ${fix}`,
  )
}

function planModule(
  layer: number,
  target: TargetModule,
  { rank, scale }: ModuleLora,
  pair: LoraPair,
  base: BaseShape,
): PlannedModule {
  const { nIn, nOut } = targetSizes(base, target)
  const a = requireShape(pair.a, tensorName(layer, target, 'A'), [rank, nIn])
  const b = requireShape(pair.b, tensorName(layer, target, 'B'), [nOut, rank])
  return { layer, target, nIn, nOut, rank, scale, a, b }
}

function requireShape(
  tensor: Tensor | undefined,
  name: string,
  expected: readonly [number, number],
): Tensor {
  if (tensor === undefined) {
    const fix = 'the config targets its module; save the adapter again, or set layers_to_transform'
    throw adapterInvalid('weights', name, `is missing; ${fix}`)
  }
  const { shape } = tensor
  if (shape.length === 2 && shape[0] === expected[0] && shape[1] === expected[1]) return tensor
  const fix = 'was it trained on this base model, and with the rank its config says?'
  const problem = `has shape [${shape.join(', ')}], expected [${expected.join(', ')}]; ${fix}`
  throw adapterInvalid('weights', name, problem)
}

function refuseUntargeted({ a, b }: LoraPair): Error {
  const name = (a ?? b)?.name ?? 'tensor'
  return adapterInvalid('weights', name, 'is of a module that the config does not target')
}
