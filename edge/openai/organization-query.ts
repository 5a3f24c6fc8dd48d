/**
 * Queries of OpenAI's organization usage and costs: which buckets, of whom, split by what. A tenant
 * is a project. What cannot be honoured is refused by name.
 */
import { z } from 'zod'
import type { BucketGroup, BucketWidth } from '#db/queries/usage-buckets.ts'
import { invalid, unsupported } from '../errors.ts'
import { INSTANT_MS_MAX } from '../instant.ts'
import { parseValue } from '../read-body.ts'

/** How many buckets a page has, unless told and at most: as OpenAI bounds them. */
interface Width {
  readonly unit: BucketWidth
  readonly seconds: number
  readonly limit: number
  readonly limitMax: number
}
const WIDTHS = {
  '1m': { unit: 'minute', seconds: 60, limit: 60, limitMax: 1440 },
  '1h': { unit: 'hour', seconds: 3600, limit: 24, limitMax: 168 },
  '1d': { unit: 'day', seconds: 86_400, limit: 7, limitMax: 31 },
} as const satisfies Record<string, Width>
const COSTS_WIDTH: Width = { ...WIDTHS['1d'], limitMax: 180 }

export type ReportKind = 'usage' | 'costs'
/** A field of a result that the caller may split by. */
export type ResultGroup = 'project_id' | 'api_key_id' | 'model' | 'line_item'

const GROUPS: Readonly<Record<ReportKind, Readonly<Partial<Record<ResultGroup, BucketGroup>>>>> = {
  usage: { project_id: 'tenantId', api_key_id: 'keyId', model: 'model' },
  // A line item is a model's kind of token.
  costs: { project_id: 'tenantId', api_key_id: 'keyId', line_item: 'model' },
}
/** Nozzle has no users, batches or tiers to tell usage apart by. */
const UNSUPPORTED = ['user_ids', 'batch', 'api_source']

const LISTS = ['group_by', 'project_ids', 'api_key_ids', 'models']

const ITEMS_MAX = 100
const TIME_SECONDS_MAX = INSTANT_MS_MAX / 1000
const PAGE_FORM = 'must be a next_page of an earlier reply'
const secondsOf = (page: string): number => Number(page.slice('page_'.length))
const seconds = z.coerce.number().int().min(0).max(TIME_SECONDS_MAX)
const query = z.object({
  start_time: seconds,
  end_time: seconds.optional(),
  bucket_width: z.enum(['1m', '1h', '1d']).default('1d'),
  limit: z.coerce.number().int().min(1).optional(),
  page: z
    .string()
    .regex(/^page_\d{1,12}$/, PAGE_FORM)
    .refine((page) => secondsOf(page) <= TIME_SECONDS_MAX, PAGE_FORM)
    .optional(),
})

/** All of a report's parameters, as its reference shows them. */
export function reportParameters(kind: ReportKind): z.ZodObject {
  const texts = z.array(z.string()).max(ITEMS_MAX).optional()
  const groups = Object.keys(GROUPS[kind])
  return z.object({
    ...query.shape,
    ...Object.fromEntries(listsOf(kind).map((name) => [name, texts])),
    group_by: z.array(z.enum(groups)).optional(),
  })
}

export interface ReportQuery {
  readonly start: Date
  /** Exclusive; end of the page's last bucket. */
  readonly end: Date
  readonly width: Width
  /** Cursor of the page that follows; null = this is the last. */
  readonly nextPage: string | null
  readonly groupBy: readonly BucketGroup[]
  readonly groups: readonly ResultGroup[]
  readonly projects: readonly string[] | undefined
  readonly keyIds: readonly string[] | undefined
  readonly models: readonly string[] | undefined
  readonly lineItems: readonly string[] | undefined
}

/**
 * Buckets lie on whole minutes, hours or days in UTC: the first one holds `start_time`, the last
 * one the moment before `end_time`, or now.
 */
export function parseReportQuery(kind: ReportKind, url: URL, nowMs: number): ReportQuery {
  const params = url.searchParams
  for (const name of UNSUPPORTED) {
    if (list(params, name) !== undefined)
      throw unsupported(name, 'Nozzle does not tell usage apart by it.')
  }
  refuseUnknown(kind, params)
  const wish = parseValue(query, Object.fromEntries(params))
  const width = widthOf(kind, wish.bucket_width)
  const limit = wish.limit ?? width.limit
  if (limit > width.limitMax) {
    throw invalid('limit', `must be at most ${width.limitMax} with this bucket_width`)
  }
  const endTime = wish.end_time ?? Math.floor(nowMs / 1000) + 1
  if (wish.start_time >= endTime) throw invalid('start_time', 'must be before end_time')
  const from = wish.page === undefined ? wish.start_time : secondsOf(wish.page)
  const first = Math.floor(from / width.seconds)
  const end = Math.max(first, Math.ceil(endTime / width.seconds))
  const last = Math.min(first + limit, end)
  const groups = parseGroups(kind, list(params, 'group_by') ?? [])
  const lineItems = kind === 'costs' ? list(params, 'line_items') : undefined
  if (lineItems !== undefined && !groups.includes('line_item')) {
    throw unsupported('line_items', 'It needs group_by=line_item.')
  }
  return {
    start: new Date(first * width.seconds * 1000),
    end: new Date(last * width.seconds * 1000),
    width,
    nextPage: last < end ? `page_${last * width.seconds}` : null,
    groupBy: groups.flatMap((name) => GROUPS[kind][name] ?? []),
    groups,
    projects: list(params, 'project_ids'),
    keyIds: list(params, 'api_key_ids'),
    models: list(params, 'models'),
    lineItems,
  }
}

function refuseUnknown(kind: ReportKind, params: URLSearchParams): void {
  const lists = listsOf(kind)
  const known = [...Object.keys(query.shape), ...lists]
  for (const given of params.keys()) {
    const name = given.replace(/\[\]$/, '')
    if (!(given === name ? known : lists).includes(name)) {
      throw unsupported(name, `The parameters are ${known.join(', ')}.`)
    }
  }
}

function listsOf(kind: ReportKind): string[] {
  return kind === 'costs' ? [...LISTS, 'line_items'] : LISTS
}

function widthOf(kind: ReportKind, name: keyof typeof WIDTHS): Width {
  if (kind === 'usage') return WIDTHS[name]
  if (name !== '1d') throw invalid('bucket_width', 'must be 1d for costs')
  return COSTS_WIDTH
}

function parseGroups(kind: ReportKind, names: readonly string[]): ResultGroup[] {
  const known = Object.keys(GROUPS[kind])
  const isKnown = (name: string): name is ResultGroup => known.includes(name)
  return names.map((name) => {
    if (isKnown(name)) return name
    throw unsupported('group_by', `It must be of ${known.join(', ')}, not "${name}".`)
  })
}

/** Lists come as `name=a&name=b`, `name[]=a&name[]=b` (OpenAI's SDKs) or `name=a,b`. */
function list(params: URLSearchParams, name: string): string[] | undefined {
  const given = [...params.getAll(name), ...params.getAll(`${name}[]`)]
  if (given.length === 0) return undefined
  // The name of a line item has a comma in it.
  const items = name === 'line_items' ? given : given.flatMap((text) => text.split(','))
  if (items.length > ITEMS_MAX) throw invalid(name, `may have at most ${ITEMS_MAX} items`)
  return items
}
