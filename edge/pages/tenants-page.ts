/** Every tenant, for the operator, with the way to its pages. */
import { html } from 'hono/html'
import { moment, path, table } from './html.ts'
import type { Visit } from './visit.ts'
import { tenantList } from './wire.ts'

export async function showTenantsPage({ api, show }: Visit): Promise<Response> {
  const { data } = await api.get('/v1/tenants', tenantList)
  return show({
    title: 'Tenants',
    content: table({
      caption: 'Tenants of the pool',
      columns: [{ head: 'Tenant' }, { head: 'Weight', isNumber: true }, { head: 'Since' }],
      rows: data.map(({ name, weight, created_at }) => [
        html`<a href="${path('ui', 't', name, 'models')}">${name}</a>`,
        weight,
        moment(created_at),
      ]),
      empty: 'There is no tenant yet.',
    }),
  })
}
