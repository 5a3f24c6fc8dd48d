/** `nozzle price`: what a token costs. Needs the operator key. */
import { formatUsdPerMillion, parseUsdPerMillion } from '#db/money.ts'
import { callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type PriceRow, priceList, priceRow } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, locateEdge } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'

const COLUMNS = ['BASE MODEL', 'VERSION', 'PROMPT', 'CACHED', 'COMPLETION', 'SINCE', 'ID']

const list: Command = {
  name: 'price ls',
  summary: 'list prices, USD per million tokens',
  positionals: [],
  flags: {
    'base-model': { type: 'string', value: 'name', help: 'this base model alone' },
    ...EDGE_FLAGS,
  },
  details: 'The highest version of a base model is in force. --json has pico-USD per token.',
  examples: ['nozzle price ls', 'nozzle price ls --base-model smollm2-135m --json'],
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
    'All three are needed, with at most six decimals. Versions are immutable: what was promised\n' +
    'or charged at an older one stays. Requests are charged at the price they were admitted under.',
  examples: [
    'nozzle price set smollm2-135m --prompt 0.10 --cached-prompt 0.05 --completion 0.40',
    'nozzle price set smollm2-135m --prompt 0 --cached-prompt 0 --completion 0 --dry-run',
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
    if (call.flags.isSet('dry-run')) {
      const plan = { dry_run: true, action: 'set_price', ...json }
      call.output.data(plan, `would add a price of ${baseModel}`)
      return
    }
    const request = { method: 'POST', path: '/v1/prices', json, signal: call.signal } as const
    const price = await callEdge(target, request, priceRow)
    call.output.data(price, formatTable(COLUMNS, [toCells(price)]))
  },
}

/** Pico-USD per token, as text. */
function readPrice(call: CommandCall, flag: string): string {
  const text = call.flags.requiredText(flag)
  const price = parseUsdPerMillion(text)
  if (price !== null) return String(price)
  const form = 'US dollars per million tokens with at most six decimals, such as 0.10'
  throw new CliError('usage', `--${flag} must be ${form}, not "${text}"`)
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
