/** `nozzle price`: what a token costs. Needs the operator key. */
import { formatUsdPerMillion } from '#db/money.ts'
import { type ApiTarget, callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type PriceRow, priceList, priceRow } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, locateEdge } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
import { readUsdPerMillion } from '../lib/usd.ts'

const COLUMNS = ['BASE MODEL', 'VERSION', 'PROMPT', 'CACHED', 'COMPLETION', 'SINCE', 'ID']

const PRICE_FIELDS = ['prompt_pusd', 'cached_prompt_pusd', 'completion_pusd'] as const

const list: Command = {
  name: 'price ls',
  summary: 'list prices, USD per million tokens',
  positionals: [],
  flags: {
    'base-model': { type: 'string', value: 'name', help: 'this base model alone' },
    ...EDGE_FLAGS,
  },
  details: 'The highest version of a base model is in force. --json has pico-USD per token.',
  examples: ['nozzle price ls', 'nozzle price ls --base-model smollm2-135m-instruct --json'],
  async run(call) {
    const baseModel = call.flags.text('base-model')
    const query = new URLSearchParams(baseModel === undefined ? {} : { base_model: baseModel })
    const request = { method: 'GET', path: `/v1/prices?${query}`, signal: call.signal } as const
    const prices = await callEdge(locateEdge(call), request, priceList)
    call.output.data(prices, formatTable(COLUMNS, prices.data.map(toCells)))
  },
}

const set: Command = {
  name: 'price set',
  summary: 'add the next version of a price',
  positionals: ['<base-model>'],
  flags: {
    prompt: { type: 'string', value: 'usd', help: 'USD per million prompt tokens' },
    'cached-prompt': {
      type: 'string',
      value: 'usd',
      help: 'USD per million prompt tokens found in the prefix cache',
    },
    completion: { type: 'string', value: 'usd', help: 'USD per million completion tokens' },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'All three are needed, with at most six decimals; prices in force already add no version.\n' +
    'Versions are immutable: what was promised or charged at an older one stays. Requests are\n' +
    'charged at the price they were admitted under.',
  examples: [
    'nozzle price set smollm2-135m-instruct --prompt 0.10 --cached-prompt 0.05 --completion 0.40',
    'nozzle price set smollm2-135m-instruct --prompt 0 --cached-prompt 0 --completion 0 --dry-run',
  ],
  async run(call) {
    const [baseModel = ''] = call.positionals
    const json = {
      base_model: baseModel,
      prompt_pusd: readPrice(call, 'prompt'),
      cached_prompt_pusd: readPrice(call, 'cached-prompt'),
      completion_pusd: readPrice(call, 'completion'),
    }
    const target = locateEdge(call)
    const inForce = await readInForce(call, target, baseModel)
    const isSame = PRICE_FIELDS.every((field) => BigInt(inForce[field]) === BigInt(json[field]))
    if (isSame) call.output.note('these prices are in force already; no version is added')
    if (call.flags.isSet('dry-run')) {
      const action = isSame ? 'none' : 'set_price'
      const text = `would add version ${inForce.version + 1} of ${baseModel}: ${describe(json)}`
      const plan = { dry_run: true, action, ...json }
      call.output.data(plan, isSame ? `would add nothing to ${baseModel}` : text)
      return
    }
    if (isSame) {
      call.output.data(inForce, formatTable(COLUMNS, [toCells(inForce)]))
      return
    }
    const request = { method: 'POST', path: '/v1/prices', json, signal: call.signal } as const
    const price = await callEdge(target, request, priceRow)
    call.output.data(price, formatTable(COLUMNS, [toCells(price)]))
  },
}

/** Pico-USD per token, as text. */
function readPrice(call: CommandCall, flag: string): string {
  return String(readUsdPerMillion(flag, call.flags.requiredText(flag)))
}

/** Throws `not_found` when there is no such base model. */
async function readInForce(
  call: CommandCall,
  target: ApiTarget,
  baseModel: string,
): Promise<PriceRow> {
  const query = new URLSearchParams({ base_model: baseModel })
  const request = { method: 'GET', path: `/v1/prices?${query}`, signal: call.signal } as const
  const [newest] = (await callEdge(target, request, priceList)).data
  if (newest) return newest
  const fix = '`nozzle price ls` lists those that there are.'
  throw new CliError('not_found', `there is no base model "${baseModel}"`, fix)
}

function describe(prices: Pick<PriceRow, (typeof PRICE_FIELDS)[number]>): string {
  const usd = PRICE_FIELDS.map((field) => formatUsdPerMillion(BigInt(prices[field]))).join('/')
  return `${usd} USD per million prompt/cached/completion tokens`
}

function toCells(price: PriceRow): (string | number)[] {
  const usd = (pusd: string): string => formatUsdPerMillion(BigInt(pusd))
  return [
    price.base_model,
    price.version,
    usd(price.prompt_pusd),
    usd(price.cached_prompt_pusd),
    usd(price.completion_pusd),
    price.created_at,
    price.id,
  ]
}

export const priceCommands: readonly Command[] = [list, set]
