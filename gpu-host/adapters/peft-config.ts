/**
 * adapter_config.json → what it means for each linear layer. Anything that PEFT would act on and
 * this host would not is refused by name, so an adapter is either served exactly or not at all. A
 * field nobody here knows is taken only when it is null, false or empty.
 */
import { z } from 'zod'
import { adapterInvalid, toPrintableJson } from './adapter-invalid.ts'
import { INERT_FIELDS, REFUSED_FIELDS } from './peft-fields.ts'
import {
  type ModulePatterns,
  parseLayers,
  parsePatterns,
  parseSelector,
  type Selector,
} from './peft-selectors.ts'
import { parseStrictJson } from './strict-json.ts'

export const CONFIG_BYTES_MAX = 256 * 1024

export interface PeftConfig {
  readonly rank: number
  readonly alpha: number
  readonly useRslora: boolean
  readonly rankPattern: ModulePatterns
  readonly alphaPattern: ModulePatterns
  readonly targets: Selector
  readonly excluded: Selector | null
  /** null = all layers. */
  readonly layers: ReadonlySet<number> | null
}

export interface ModuleLora {
  readonly rank: number
  /** alpha/rank, or alpha/√rank with rsLoRA. */
  readonly scale: number
}

const finite = z.number('must be a finite number')
const names = z.union([z.string(), z.array(z.string())], 'must be text or a list of texts')
const flag = z.boolean('must be true or false').nullish()

const configFields = z.looseObject({
  peft_type: z.literal('LORA', 'must be LORA: no other PEFT method is served'),
  task_type: z.literal('CAUSAL_LM', 'must be CAUSAL_LM or null').nullish(),
  r: z.int('must be a whole number').min(1, 'must be at least 1'),
  lora_alpha: finite,
  use_rslora: flag,
  target_modules: names,
  exclude_modules: names.nullish(),
  rank_pattern: z
    .record(z.string(), z.int('must be a whole number').min(1, 'must be at least 1'))
    .nullish(),
  alpha_pattern: z.record(z.string(), finite).nullish(),
  layers_to_transform: z
    .union([z.int().min(0), z.array(z.int().min(0))], 'must be a layer or a list of layers')
    .nullish(),
  layers_pattern: names.nullish(),
  bias: z.literal('none', 'must be none: biases are not served; train with bias="none"').nullish(),
  init_lora_weights: z
    .union([z.boolean(), z.string()], 'must be true, false or the name of an initialisation')
    .nullish(),
})

/** Initialisations that leave the base model's own weights as they were. */
const INITIALISATIONS = ['gaussian', 'eva', 'orthogonal']

/** Throws `adapter_invalid`, naming the field and what to change. */
export function parsePeftConfig(bytes: Uint8Array): PeftConfig {
  const value = parseObject(bytes)
  // The method first: the fields of another one would only puzzle.
  parseFields(configFields.pick({ peft_type: true }), value)
  checkFields(value)
  const fields = parseFields(configFields, value)
  checkInitialisation(fields.init_lora_weights)
  return {
    rank: fields.r,
    alpha: fields.lora_alpha,
    useRslora: fields.use_rslora ?? false,
    rankPattern: parsePatterns('rank_pattern', fields.rank_pattern ?? {}),
    alphaPattern: parsePatterns('alpha_pattern', fields.alpha_pattern ?? {}),
    targets: parseSelector('target_modules', fields.target_modules),
    excluded: isEmpty(fields.exclude_modules)
      ? null
      : parseSelector('exclude_modules', fields.exclude_modules ?? []),
    layers: parseLayers(fields),
  }
}

/** What the config makes of a module; null = it leaves the module alone. */
export function moduleLora(config: PeftConfig, layer: number, name: string): ModuleLora | null {
  const { targets, excluded, layers } = config
  if (excluded?.matches(name) || !targets.matches(name)) return null
  if (layers !== null && !layers.has(layer)) return null
  const rank = config.rankPattern.find(name) ?? config.rank
  const alpha = config.alphaPattern.find(name) ?? config.alpha
  const scale = alpha / (config.useRslora ? Math.sqrt(rank) : rank)
  // The engine keeps the scale as F32.
  if (Number.isFinite(Math.fround(scale))) return { rank, scale }
  throw adapterInvalid('config', 'lora_alpha', `gives ${name} a scale of ${scale}; lower it`)
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  const json = parseStrictJson(bytes)
  if (!json.isValid) throw adapterInvalid('config', json.key ?? 'config', json.problem)
  const object = z.record(z.string(), z.unknown()).safeParse(json.value)
  if (!object.success) throw adapterInvalid('config', 'config', 'is not a JSON object')
  return object.data
}

function parseFields<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const [field = 'config', ...path] = issue?.path.map(String) ?? []
  const where = path.length === 0 ? '' : `(at ${toPrintableJson(path.join('.'))}) `
  throw adapterInvalid('config', field, `${where}${issue?.message ?? 'is not valid'}`)
}

function checkFields(value: Record<string, unknown>): void {
  for (const [field, found] of Object.entries(value)) {
    if (isEmpty(found) || INERT_FIELDS.has(field) || Object.hasOwn(configFields.shape, field)) {
      continue
    }
    const why = REFUSED_FIELDS.get(field)
    if (why !== undefined) {
      throw adapterInvalid('config', field, `is ${toPrintableJson(found)}: ${why}`)
    }
    const fix = 'this host does not know whether it changes results; remove it or set it to null'
    throw adapterInvalid('config', field, `is an unknown field; ${fix}`)
  }
}

function checkInitialisation(init: boolean | string | null | undefined): void {
  if (typeof init !== 'string' || INITIALISATIONS.includes(init.toLowerCase())) return
  const fix =
    'it may change the base model itself, so the adapter does not fit the original one; convert it ' +
    'with path_initial_model_for_weight_conversion, or train with init_lora_weights=true'
  throw adapterInvalid('config', 'init_lora_weights', `is ${toPrintableJson(init)}: ${fix}`)
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === '') return true
  return typeof value === 'object' && Object.keys(value).length === 0
}
