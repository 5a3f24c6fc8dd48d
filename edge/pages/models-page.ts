/** A tenant's models, each with its endpoint and what serves it. */
import { html } from 'hono/html'
import { badge, type Content, code, moment, path, table } from './html.ts'
import type { Visit } from './visit.ts'
import { type ModelView, modelList } from './wire.ts'

export async function showModelsPage({ api, tenantName, show }: Visit): Promise<Response> {
  const { data } = await api.get(path('v1', 'tenants', tenantName, 'models'), modelList)
  const content = table({
    caption: `Models of ${tenantName}`,
    columns: [
      { head: 'Model' },
      { head: 'Serves' },
      { head: 'Endpoint' },
      { head: 'Base model' },
      { head: 'Rank', isNumber: true },
      { head: 'Deployed' },
    ],
    rows: data.map((model) => [
      html`<a href="${path('ui', 't', tenantName, 'models', model.name)}">${model.name}</a>`,
      serving(model),
      html`<code>${model.endpoint}</code>`,
      model.base_model,
      model.rank,
      moment(model.deployed_at),
    ]),
    empty: 'No model is deployed yet.',
  })
  const first = html`<section><h2>Deploy one</h2>
<p>An adapter that PEFT saved becomes a model with an endpoint of its own:</p>
${code('Deploy an adapter', 'nozzle deploy ./my-adapter --model my-model')}</section>`
  return show({ title: 'Models', content: data.length === 0 ? [content, first] : content })
}

/** Which versions get requests. */
export function serving({ version, canary }: Pick<ModelView, 'version' | 'canary'>): Content {
  const main = badge(`v${version} · ${100 - (canary?.weight ?? 0)}%`, 'good')
  if (canary === null) return main
  return html`${main} ${badge(`canary v${canary.version} · ${canary.weight}%`, 'warn')}`
}
