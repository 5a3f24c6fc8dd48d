/**
 * The FOCUS export against the specification's own tables: test/focus/columns-1.2.json has what
 * FOCUS 1.2 says of each column that we write and of every mandatory one; the rules between columns
 * are below. test/focus/golden.csv is the file as a whole.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { costOf, formatUsd, parseUsd, roundToCent } from '#db/money.ts'
import type { InvoiceLine } from '#db/queries/invoice-lines.ts'
import { formatFocusCsv } from './focus.ts'
import type { InvoiceDocument } from './invoice-document.ts'

const FOLDER = new URL('../test/focus/', import.meta.url)
const read = (name: string) => readFileSync(new URL(name, FOLDER), 'utf8')

const table = z
  .object({
    columns: z.record(
      z.string(),
      z.object({
        presence: z.enum(['mandatory', 'conditional', 'recommended']),
        nulls: z.boolean(),
        type: z.enum(['string', 'decimal', 'time', 'currency', 'object']),
        allowed: z.array(z.string()).optional(),
        minimum: z.number().optional(),
        parent: z.string().optional(),
      }),
    ),
  })
  .parse(JSON.parse(read('columns-1.2.json')))

const PRICES = { promptPusd: 100_000n, cachedPromptPusd: 50_000n, completionPusd: 400_000n }
const SEPTEMBER = new Date('2026-09-01T00:00:00Z')
const OCTOBER = new Date('2026-10-01T00:00:00Z')

function line(change: Partial<InvoiceLine> & Pick<InvoiceLine, 'line' | 'quantity'>): InvoiceLine {
  const unitPricePusd = change.unitPricePusd ?? PRICES.promptPusd
  const exactPusd = change.quantity * unitPricePusd
  return {
    invoiceId: 'inv_01k6ezqr00bgn8v4x2d9h7c3ma',
    tenantId: 'ten_01k2g5w8x0q4r7t1v3z6b9d2fh',
    usageStart: OCTOBER,
    isCorrection: false,
    model: 'support-bot',
    modelId: 'mod_01k2g5w8x0a1b2c3d4e5f6g7h8',
    baseModel: 'smollm2-135m',
    priceId: 'prc_01k2g5w8x0j9k8m7n6p5q4r3s2',
    kind: 'prompt',
    unitPricePusd,
    exactPusd,
    billedPusd: roundToCent(exactPusd),
    ...change,
  }
}

const LINES = [
  line({
    ...{ line: 1, quantity: -1_234_567n, kind: 'completion' },
    ...{ unitPricePusd: PRICES.completionPusd, usageStart: SEPTEMBER, isCorrection: true },
  }),
  line({ line: 2, quantity: 987_654_321n }),
  line({
    ...{ line: 3, quantity: 123_456_789n, kind: 'cached_prompt' },
    unitPricePusd: PRICES.cachedPromptPusd,
  }),
  line({
    ...{ line: 4, quantity: 45_678_901n, kind: 'completion' },
    unitPricePusd: PRICES.completionPusd,
  }),
  line({ line: 5, quantity: 4_321n, model: 'smollm2-135m', modelId: null }),
  line({
    ...{ line: 6, quantity: 77n, model: 'bot, "beta"', baseModel: 'nobody-priced-it' },
    ...{ priceId: null, unitPricePusd: 0n },
  }),
]

const DOCUMENT: InvoiceDocument = {
  invoice: {
    ...{ id: 'inv_01k6ezqr00bgn8v4x2d9h7c3ma', tenantId: 'ten_01k2g5w8x0q4r7t1v3z6b9d2fh' },
    ...{ number: 3, status: 'final', currency: 'USD', lineCount: LINES.length },
    ...{ periodStart: OCTOBER, periodEnd: new Date('2026-11-01T00:00:00Z') },
    ...{ createdAt: OCTOBER, finalizedAt: new Date('2026-11-01T01:00:00Z') },
    ...{ billedPusd: null, exactPusd: null, unbilledPusd: null },
    ...{ requests: 9n, unpricedRequests: 1n, recoveredRequests: 0n },
  },
  tenant: { id: 'ten_01k2g5w8x0q4r7t1v3z6b9d2fh', name: 'acme', weight: 1, createdAt: SEPTEMBER },
  issuer: 'Nozzle',
  lines: LINES,
  billedPusd: LINES.reduce((sum, { billedPusd }) => sum + billedPusd, 0n),
  exactPusd: LINES.reduce((sum, { exactPusd }) => sum + exactPusd, 0n),
  counts: { requests: 9n, unpricedRequests: 1n, recoveredRequests: 0n },
  asOf: new Date('2026-11-01T01:00:00Z'),
}

type Row = Readonly<Record<string, string | null>>

/** RFC 4180; an empty field without quotes is null. */
function parseCsv(text: string): { header: string[]; rows: Row[] } {
  const records = [...text.matchAll(/((?:"(?:[^"]|"")*"|[^",\r\n]*)(?:,|\r\n))/g)].map(
    ([cell]) => cell,
  )
  const lines: (string | null)[][] = [[]]
  for (const cell of records) {
    const field = cell.replace(/(,|\r\n)$/, '')
    const value = field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field || null
    lines.at(-1)?.push(value)
    if (cell.endsWith('\r\n')) lines.push([])
  }
  const [header = [], ...rows] = lines.slice(0, -1)
  const names = header.map(String)
  return {
    header: names,
    rows: rows.map((cells) => Object.fromEntries(names.map((name, i) => [name, cells[i] ?? null]))),
  }
}

const { header, rows } = parseCsv(formatFocusCsv(DOCUMENT))
const own = header.filter((name) => name.startsWith('x_'))

/** Decimal text → pico-units, exact. */
function decimal(text: string | null | undefined): bigint {
  const value = parseUsd((text ?? '').replace(/^-/, ''))
  if (value === null) throw new Error(`not a decimal: ${text}`)
  return text?.startsWith('-') ? -value : value
}

function isOfType(value: string, type: string): boolean {
  switch (type) {
    case 'decimal':
      return /^-?\d+(\.\d+)?$/.test(value)
    case 'time':
      return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value) && !Number.isNaN(Date.parse(value))
    case 'currency':
      return /^[A-Z]{3}$/.test(value)
    case 'object':
      return z
        .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
        .safeParse(JSON.parse(value)).success
    default:
      return value.trim() !== '' && !/^(n\/?a|null|none|not applicable)$/i.test(value)
  }
}

describe('columns', () => {
  it('are all the mandatory ones, and none that the specification does not know', () => {
    const mandatory = Object.keys(table.columns).filter(
      (name) => table.columns[name]?.presence === 'mandatory',
    )
    expect(header).toEqual(expect.arrayContaining(mandatory))
    expect(mandatory).toHaveLength(21)
    const unknown = header.filter((name) => !own.includes(name) && !(name in table.columns))
    expect(unknown).toEqual([])
  })

  it('are named in Pascal case, once each; our own start with x_ and come last', () => {
    expect(new Set(header).size).toBe(header.length)
    for (const name of header) expect(name).toMatch(/^(x_)?([A-Z][a-z0-9]*)+$/)
    for (const name of header) expect(name.length).toBeLessThanOrEqual(50)
    expect(header.slice(-own.length)).toEqual(own)
  })

  it.each(Object.entries(table.columns))('%s has its type, nulls and values', (name, column) => {
    for (const row of rows) {
      const value = row[name] ?? null
      if (value === null) {
        expect(column.nulls).toBe(true)
        continue
      }
      expect(isOfType(value, column.type), `${name}: ${value}`).toBe(true)
      if (column.allowed) expect(column.allowed).toContain(value)
      if (column.minimum !== undefined) expect(decimal(value)).toBeGreaterThanOrEqual(0n)
      if (column.parent) expect(row.ServiceCategory).toBe(column.parent)
    }
  })
})

describe('rows', () => {
  it('add up to the invoice that they name, to the cent', () => {
    const billed = rows.reduce((sum, row) => sum + decimal(row.BilledCost), 0n)
    expect(billed).toBe(DOCUMENT.billedPusd)
    expect(new Set(rows.map((row) => `${row.InvoiceId} ${row.BillingAccountId}`)).size).toBe(1)
    for (const row of rows) expect(decimal(row.BilledCost) % 10_000_000_000n).toBe(0n)
  })

  it('cost their unit price × quantity, without a discount', () => {
    for (const row of rows) {
      const pusd = (decimal(row.ListUnitPrice) * decimal(row.PricingQuantity)) / 10n ** 12n
      for (const name of ['ListCost', 'ContractedCost', 'EffectiveCost']) {
        expect(decimal(row[name])).toBe(pusd)
      }
      expect(row.ContractedUnitPrice).toBe(row.ListUnitPrice)
    }
    const [, prompt, cached, completion] = rows
    const exact = costOf(
      {
        promptTokens: 1_111_111_110,
        cachedPromptTokens: 123_456_789,
        completionTokens: 45_678_901,
      },
      PRICES,
    )
    const costs = [prompt, cached, completion].map((row) => decimal(row?.EffectiveCost))
    expect(formatUsd(costs.reduce((sum, cost) => sum + cost, 0n))).toBe(formatUsd(exact))
  })

  it('say all that a usage charge must, unless they correct one', () => {
    for (const row of rows) {
      expect(row.ChargeCategory).toBe('Usage')
      if (row.ChargeClass === 'Correction') continue
      for (const name of [
        ...['PricingQuantity', 'PricingUnit', 'PricingCategory', 'ListUnitPrice'],
        ...['ContractedUnitPrice', 'SkuId', 'SkuPriceId', 'ConsumedQuantity', 'ConsumedUnit'],
      ]) {
        expect(row[name], name).not.toBeNull()
      }
      expect(decimal(row.ConsumedQuantity)).toBeGreaterThan(0n)
    }
  })

  it('are corrections exactly where they change a month that was invoiced', () => {
    expect(rows.map((row) => row.ChargeClass)).toEqual(['Correction', null, null, null, null, null])
    for (const row of rows) {
      const isEarlier = (row.ChargePeriodStart ?? '') < (row.BillingPeriodStart ?? '')
      expect(isEarlier).toBe(row.ChargeClass === 'Correction')
      expect((row.ChargePeriodStart ?? '') < (row.ChargePeriodEnd ?? '')).toBe(true)
      expect((row.BillingPeriodStart ?? '') < (row.BillingPeriodEnd ?? '')).toBe(true)
    }
  })

  it('have one SKU, meter and details a SKU price', () => {
    const bySku = new Map<string, string>()
    for (const row of rows) {
      const facts = [row.SkuId, row.SkuMeter, row.SkuPriceDetails].join(' ')
      expect(bySku.get(row.SkuPriceId ?? '') ?? facts).toBe(facts)
      bySku.set(row.SkuPriceId ?? '', facts)
    }
    expect(bySku.size).toBe(4)
  })

  it('are the file of record, which the independent validator has passed', () => {
    const content = formatFocusCsv(DOCUMENT)
    expect(content).toBe(read('golden.csv'))
    const digest = createHash('sha256').update(content).digest('hex')
    expect(read('validator-1.0.0.txt')).toContain(`golden.csv sha256 ${digest}`)
    expect(read('validator-1.0.0.txt')).toContain('Validation succeeded.')
  })
})
