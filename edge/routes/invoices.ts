/**
 * Invoices under /v1/tenants/:tenant/invoices: the operator makes and finalizes them, the tenant
 * reads its own. `:invoice` is an id (`inv_…`) or a month (`2026-11`).
 */
import { z } from 'zod'
import {
  BILLING_PERIOD_FORM,
  type BillingPeriod,
  GRACE_MS,
  parseBillingPeriod,
} from '#db/billing-period.ts'
import {
  createInvoice,
  finalizeInvoice,
  findInvoice,
  type Invoice,
  listInvoices,
} from '#db/queries/invoices.ts'
import type { Tenant } from '#db/queries/tenants.ts'
import { rollUpUsage } from '#db/queries/usage-rollups.ts'
import { EXPORT_FORMATS, exportInvoice } from '../billing/export.ts'
import {
  type InvoiceDocument,
  readInvoiceDocument,
  toDetail,
  toSummary,
} from '../billing/invoice-document.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { parseJson, parseValue, readBytes, readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator, accessTenant, audit } from '../tenant-access.ts'

const period = z.string().transform((text, context) => {
  const parsed = parseBillingPeriod(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: `must be ${BILLING_PERIOD_FORM}` })
  return z.NEVER
})
export const createBody = z.object({ period })
export const finalizeBody = z.object({ ignore_grace: z.boolean().default(false) })
export const exportQuery = z.object({ format: z.enum(EXPORT_FORMATS).default('json') })

/** 201 for a new draft, 200 for the invoice that the period has already. */
export function addInvoice(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const tenant = await accessTenant(deps, c)
    const wish = await readJson(c.req.raw, createBody, ADMIN_BYTES_MAX)
    if (wish.period.start.getTime() > deps.nowMs()) throw notBegun(wish.period)
    const { invoice, isNew } = await createInvoice(deps.db, {
      tenantId: tenant.id,
      period: wish.period,
    })
    if (isNew) {
      await audit(deps, c, { tenantId: tenant.id, action: 'invoice.create', subject: invoice.id })
    }
    return c.json(toDetail(await readDocument(deps, tenant, invoice)), isNew ? 201 : 200)
  }
}

export function showInvoices(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const rows = await listInvoices(deps.db, tenant.id)
    return c.json({ data: rows.map((invoice) => toSummary(invoice, tenant)) })
  }
}

export function showInvoice(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    return c.json(toDetail(await readDocument(deps, tenant, await findNamed(deps, c, tenant))))
  }
}

/** Final already: answers as it stands. */
export function closeInvoice(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const tenant = await accessTenant(deps, c)
    const bytes = await readBytes(c.req.raw, ADMIN_BYTES_MAX)
    const wish = parseValue(finalizeBody, bytes.length === 0 ? {} : parseJson(bytes))
    const { id } = await findNamed(deps, c, tenant)
    await rollUpUsage(deps.db)
    const outcome = await finalizeInvoice(deps.db, {
      tenantId: tenant.id,
      id,
      now: new Date(deps.nowMs()),
      ...(wish.ignore_grace && { graceMs: 0 }),
    })
    switch (outcome.kind) {
      case 'finalized':
        await audit(deps, c, { tenantId: tenant.id, action: 'invoice.finalize', subject: id })
        return c.json(toDetail(await readDocument(deps, tenant, outcome.invoice)))
      case 'already_final':
        return c.json(toDetail(await readDocument(deps, tenant, outcome.invoice)))
      case 'not_found':
        throw notFound(id)
      default:
        throw refusal(outcome.kind, outcome.invoice)
    }
  }
}

/** The file; its manifest is in the header `x-nozzle-manifest`. */
export function downloadInvoice(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const { format } = parseValue(exportQuery, c.req.query())
    const document = await readDocument(deps, tenant, await findNamed(deps, c, tenant))
    const { content, contentType, fileName, manifest } = await exportInvoice(document, format)
    c.header('content-type', contentType)
    c.header('content-disposition', `attachment; filename="${fileName}"`)
    c.header('x-nozzle-manifest', JSON.stringify(manifest))
    return c.body(content)
  }
}

/** A draft shows usage to the moment, as far as its transactions are done. */
async function readDocument(
  deps: Deps,
  tenant: Tenant,
  invoice: Invoice,
): Promise<InvoiceDocument> {
  if (invoice.status === 'draft') await rollUpUsage(deps.db)
  const { providerName: issuer } = deps.config
  const now = new Date(deps.nowMs())
  return readInvoiceDocument(deps.db, { invoice, tenant, issuer, now })
}

async function findNamed(deps: Deps, c: EdgeContext, tenant: Tenant): Promise<Invoice> {
  const named = c.req.param('invoice') ?? ''
  const month = parseBillingPeriod(named)
  const which = month === null ? { id: named } : { period: month }
  const invoice = await findInvoice(deps.db, { tenantId: tenant.id, ...which })
  if (invoice === null) throw notFound(named)
  return invoice
}

function notFound(named: string): EdgeError {
  return new EdgeError('not_found', `There is no invoice "${named}".`)
}

/** A draft takes whatever no invoice took yet, so one of a month ahead would bill this month's. */
function notBegun({ name, start }: BillingPeriod): EdgeError {
  const message = `${name} has not begun: it begins ${start.toISOString()}.`
  return new EdgeError('invoice_not_due', message, { param: 'period' })
}

function refusal(
  kind: 'period_open' | 'in_grace' | 'earlier_draft',
  { periodEnd }: Invoice,
): EdgeError {
  const messages = {
    period_open: `The period is not over: it ends ${periodEnd.toISOString()}.`,
    in_grace:
      `Events that come late are waited for until ` +
      `${new Date(periodEnd.getTime() + GRACE_MS).toISOString()}; "ignore_grace" finalizes now.`,
    earlier_draft: 'The tenant has a draft of an earlier period: finalize that one first.',
  }
  return new EdgeError('invoice_not_due', messages[kind])
}
