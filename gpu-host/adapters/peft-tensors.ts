/**
 * Pure: names of PEFT's saved tensors → which half of which module they are. A name that is not
 * exactly one of a served module's is refused: what it holds would be left out in silence.
 */

import { adapterInvalid } from './adapter-invalid.ts'
import { TARGET_MODULES, type TargetModule } from './adapter-pack.ts'
import { PEFT_PATHS, peftModuleName } from './base-shape.ts'
import type { Tensor } from './safetensors-reader.ts'

const PREFIX = 'base_model.model.'
const NAME =
  /^base_model\.model\.model\.layers\.(0|[1-9]\d{0,5})\.([a-z_]+\.[a-z_]+)\.lora_([AB])\.weight$/
const NAME_LENGTH_MAX = 200
const TARGET_BY_PATH = new Map(TARGET_MODULES.map((target) => [PEFT_PATHS[target], target]))

export interface LoraPair {
  a?: Tensor
  b?: Tensor
}

export function pairKey(layer: number, target: TargetModule): string {
  return `${layer}/${target}`
}

/** Sorts the tensors into pairs by `pairKey`. Throws `adapter_invalid` for any other tensor. */
export function groupPairs(tensors: Iterable<Tensor>, layerCount: number): Map<string, LoraPair> {
  const pairs = new Map<string, LoraPair>()
  for (const tensor of tensors) {
    const { layer, target, half } = parseName(tensor.name)
    if (layer >= layerCount) {
      const problem = `is of layer ${layer}; the base model has layers 0 to ${layerCount - 1}`
      throw adapterInvalid('weights', tensor.name, problem)
    }
    const key = pairKey(layer, target)
    const pair = pairs.get(key) ?? {}
    pairs.set(key, pair)
    if (half === 'A') pair.a = tensor
    else pair.b = tensor
  }
  return pairs
}

export function tensorName(layer: number, target: TargetModule, half: 'A' | 'B'): string {
  return `${PREFIX}${peftModuleName(layer, target)}.lora_${half}.weight`
}

function parseName(name: string): { layer: number; target: TargetModule; half: 'A' | 'B' } {
  const [, layer, path, half] = (name.length <= NAME_LENGTH_MAX && NAME.exec(name)) || []
  const target = TARGET_BY_PATH.get(path ?? '')
  if (layer !== undefined && target !== undefined) {
    return { layer: Number(layer), target, half: half === 'A' ? 'A' : 'B' }
  }
  throw adapterInvalid('weights', name, `is no tensor that is served; ${explain(name)}`)
}

function explain(name: string): string {
  if (name.includes('lora_magnitude_vector')) return 'it is of DoRA: train with use_dora=false'
  if (
    name.includes('embed_tokens') ||
    name.includes('lm_head') ||
    name.includes('lora_embedding')
  ) {
    return 'embeddings and the output head cannot be adapted: leave them out of target_modules'
  }
  if (name.endsWith('.bias')) return 'biases are not: train with bias="none"'
  return `served are ${PREFIX}model.layers.N.{self_attn,mlp}.*_proj.lora_{A,B}.weight`
}
