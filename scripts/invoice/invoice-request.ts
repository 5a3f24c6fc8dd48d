/** Where a tenant's invoices are, and the one that a command names. */
import { callEdge, toPath } from '../lib/api-client.ts'
import type { CommandCall } from '../lib/command.ts'
import { type InvoiceDetail, invoiceDetail } from '../lib/edge-replies.ts'
import { locateEdge, resolveTenant } from '../lib/edge-target.ts'

export async function locateInvoices(call: CommandCall) {
  const target = locateEdge(call)
  const tenant = await resolveTenant(call, target)
  return { target, tenant, path: toPath('v1', 'tenants', tenant, 'invoices') }
}

export async function readInvoice(call: CommandCall): Promise<InvoiceDetail> {
  const { target, path } = await locateInvoices(call)
  const [named = ''] = call.positionals
  const request = { method: 'GET', path: path + toPath(named), signal: call.signal } as const
  return callEdge(target, request, invoiceDetail)
}
