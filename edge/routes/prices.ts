/**
 * What a token costs: GET and POST /v1/prices, for the operator alone. A change is a new version;
 * what was promised or charged at an older one stays.
 */
import { z } from 'zod'
import { addPrice, currentPrice, listPrices, type Price } from '#db/queries/prices.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { parseValue, readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator, audit } from '../tenant-access.ts'

const PRICE_PUSD_MAX = 2n ** 63n - 1n
const price = z
  .string()
  .regex(/^\d{1,19}$/, 'must be a whole number of pico-USD per token, as text')
  .transform(BigInt)
  .refine((value) => value <= PRICE_PUSD_MAX, `must be at most ${PRICE_PUSD_MAX}`)

export const priceBody = z.object({
  base_model: z.string().min(1).max(200),
  prompt_pusd: price,
  cached_prompt_pusd: price,
  completion_pusd: price,
})

export const priceQuery = z.object({ base_model: z.string().min(1).max(200).optional() })

export function showPrices(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const { base_model: baseModel } = parseValue(priceQuery, c.req.query())
    const rows = await listPrices(deps.db, { baseModel })
    return c.json({ data: rows.map(toWire) })
  }
}

/** In force for requests that are admitted from now on, at other edges within PRICE_TTL_MS. */
export function setPrice(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const wish = await readJson(c.req.raw, priceBody, ADMIN_BYTES_MAX)
    const baseModel = wish.base_model
    if ((await currentPrice(deps.db, baseModel)) === null) {
      throw new EdgeError('not_found', `There is no base model "${baseModel}".`, {
        param: 'base_model',
      })
    }
    const id = await addPrice(deps.db, {
      baseModel,
      promptPusd: wish.prompt_pusd,
      cachedPromptPusd: wish.cached_prompt_pusd,
      completionPusd: wish.completion_pusd,
    })
    await audit(deps, c, { tenantId: null, action: 'price.set', subject: id })
    const added = (await listPrices(deps.db, { baseModel })).find((row) => row.id === id)
    if (!added) throw new Error('a price that was added is not listed')
    return c.json(toWire(added), 201)
  }
}

function toWire(row: Price) {
  return {
    id: row.id,
    base_model: row.baseModel,
    version: row.version,
    prompt_pusd: String(row.promptPusd),
    cached_prompt_pusd: String(row.cachedPromptPusd),
    completion_pusd: String(row.completionPusd),
    created_at: row.createdAt.toISOString(),
  }
}
