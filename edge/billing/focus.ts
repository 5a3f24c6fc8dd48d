/**
 * An invoice as FOCUS 1.2 (the FinOps Open Cost and Usage Specification): one row a line, so that
 * the billed costs of an invoice id add up to the invoice. Every mandatory column, and those
 * conditional ones that have something true to say; columns of our own start with `x_` and come
 * last. null = no value, never 0 and never empty text.
 */
import { billingPeriodOf } from '#db/billing-period.ts'
import { formatCsv } from '#db/csv.ts'
import { formatUsd } from '#db/money.ts'
import type { InvoiceLine, TokenKind } from '#db/queries/invoice-lines.ts'
import { type InvoiceDocument, toUtcSeconds } from './invoice-document.ts'

export const FOCUS_VERSION = 'FOCUS 1.2'

const METERS: Readonly<Record<TokenKind, string>> = {
  prompt: 'Prompt Tokens',
  cached_prompt: 'Cached Prompt Tokens',
  completion: 'Completion Tokens',
}

/**
 * What is sold: a kind of token of a base model. The same over time and for every tenant; which
 * price applied is in x_PriceVersionId.
 */
const skuOf = ({ baseModel, kind }: InvoiceLine): string => `${baseModel}/${kind}`

function describe(line: InvoiceLine): string {
  const what = `${METERS[line.kind]} of ${line.model} on ${line.baseModel}`
  return line.priceId === null ? `${what}, unpriced: not charged` : what
}

type Cell = (line: InvoiceLine, document: InvoiceDocument) => string | null

/** Of a billed line nothing is discounted or committed: list, contracted and exact cost are one. */
const exactCost: Cell = (line) => formatUsd(line.exactPusd)
const unitPrice: Cell = (line) => formatUsd(line.unitPricePusd)
/** A decimal column: readers that infer types from the text must not take it for an integer. */
const quantity: Cell = (line) => `${line.quantity}.0`
const tokens: Cell = () => 'Tokens'
const issuer: Cell = (_line, document) => document.issuer

const COLUMNS: Readonly<Record<string, Cell>> = {
  BilledCost: (line) => formatUsd(line.billedPusd),
  BillingAccountId: (_line, { tenant }) => tenant.id,
  BillingAccountName: (_line, { tenant }) => tenant.name,
  BillingCurrency: (_line, { invoice }) => invoice.currency,
  BillingPeriodEnd: (_line, { invoice }) => toUtcSeconds(invoice.periodEnd),
  BillingPeriodStart: (_line, { invoice }) => toUtcSeconds(invoice.periodStart),
  ChargeCategory: () => 'Usage',
  ChargeClass: (line) => (line.isCorrection ? 'Correction' : null),
  ChargeDescription: describe,
  ChargeFrequency: () => 'Usage-Based',
  ChargePeriodEnd: (line) => toUtcSeconds(billingPeriodOf(line.usageStart).end),
  ChargePeriodStart: (line) => toUtcSeconds(line.usageStart),
  ConsumedQuantity: quantity,
  ConsumedUnit: tokens,
  ContractedCost: exactCost,
  ContractedUnitPrice: unitPrice,
  EffectiveCost: exactCost,
  InvoiceId: (_line, { invoice }) => invoice.id,
  InvoiceIssuerName: issuer,
  ListCost: exactCost,
  ListUnitPrice: unitPrice,
  PricingCategory: () => 'Standard',
  PricingQuantity: quantity,
  PricingUnit: tokens,
  ProviderName: issuer,
  PublisherName: issuer,
  ResourceId: (line) => line.modelId ?? line.baseModel,
  ResourceName: (line) => line.model,
  ResourceType: (line) => (line.modelId === null ? 'Base Model' : 'Fine-Tuned Model'),
  ServiceCategory: () => 'AI and Machine Learning',
  ServiceName: () => 'Model Inference',
  ServiceSubcategory: () => 'Generative AI',
  SkuId: skuOf,
  SkuMeter: (line) => METERS[line.kind],
  SkuPriceDetails: (line) => JSON.stringify({ BaseModel: line.baseModel, TokenKind: line.kind }),
  SkuPriceId: skuOf,
  x_BaseModel: (line) => line.baseModel,
  x_ExactCostPicoUsd: (line) => String(line.exactPusd),
  x_InvoiceLine: (line) => String(line.line),
  x_InvoiceStatus: (_line, { invoice }) => invoice.status,
  x_PriceVersionId: (line) => line.priceId,
}

export function formatFocusCsv(document: InvoiceDocument): string {
  const cells = Object.values(COLUMNS)
  const rows = document.lines.map((line) => cells.map((cell) => cell(line, document)))
  return formatCsv(Object.keys(COLUMNS), rows)
}
