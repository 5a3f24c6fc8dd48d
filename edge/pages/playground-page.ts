/**
 * The playground: a prompt to a model, or to two of its versions side by side, streamed. It asks
 * the model's own endpoint, so it is limited and billed as any other request.
 */
import { html } from 'hono/html'
import { REQUEST_BYTES_MAX } from '../limits.ts'
import { readBytes } from '../read-body.ts'
import { type Html, path } from './html.ts'
import type { Visit } from './visit.ts'
import { modelList, openaiModels } from './wire.ts'

export async function showPlayground(visit: Visit): Promise<Response> {
  const names = await readModelNames(visit)
  const chosen = visit.c.req.query('model') ?? names[0]
  const content =
    names.length === 0
      ? html`<p class="empty">No model is deployed yet.</p>`
      : html`<noscript><p class="notice">The playground needs a script to stream. Without one,
ask the model as its page shows for curl.</p></noscript>
${form(visit, names, chosen)}
<div class="answers" id="answers"></div>`
  return visit.show({ title: 'Playground', assets: ['playground.js'], content })
}

/** A key that may only generate cannot list models with their versions; names will do. */
async function readModelNames({ api, viewer, tenantName }: Visit): Promise<string[]> {
  if (viewer.scopes?.includes('deploy') ?? true) {
    const { data } = await api.get(path('v1', 'tenants', tenantName, 'models'), modelList)
    return data.map(({ name }) => name)
  }
  const { data } = await api.get('/v1/models', openaiModels)
  const prefix = `${tenantName}/`
  return data.flatMap(({ id }) => (id.startsWith(prefix) ? [id.slice(prefix.length)] : []))
}

function form({ tenantName }: Visit, names: readonly string[], chosen: string | undefined): Html {
  const options = names.map((name) =>
    name === chosen ? html`<option selected>${name}</option>` : html`<option>${name}</option>`,
  )
  return html`<form id="playground" class="card" data-chat="${path('ui', 't', tenantName, 'chat')}">
<div class="fields">
<div><label for="model">Model</label><select id="model" name="model">${options}</select></div>
${numberField('version', 'Version', { min: 1, placeholder: 'as deployed' })}
${numberField('compare', 'Compare with version', { min: 1, placeholder: 'none' })}
${numberField('max_tokens', 'Tokens at most', { min: 1, value: '200' })}
${numberField('temperature', 'Temperature', { min: 0, step: '0.1', value: '0.7' })}
</div>
<label for="system">System message</label>
<input id="system" name="system" autocomplete="off">
<label for="prompt">Prompt</label>
<textarea id="prompt" name="prompt" rows="4" required></textarea>
<p><button>Send</button>
<button type="button" id="stop" class="quiet" hidden>Stop</button></p>
</form>`
}

function numberField(
  name: string,
  label: string,
  field: {
    readonly min: number
    readonly step?: string
    readonly value?: string
    readonly placeholder?: string
  },
): Html {
  const { min, step = '1', value = '', placeholder = '' } = field
  return html`<div><label for="${name}">${label}</label><input id="${name}" name="${name}"
  type="number" min="${min}" step="${step}" value="${value}" placeholder="${placeholder}"></div>`
}

/**
 * A chat completion of the model's own endpoint, its body as a client would send it. What another
 * site could send without asking first, a body that is not JSON by its type, never comes here.
 */
export async function relayChat(visit: Visit): Promise<Response> {
  const { c, api, tenantName } = visit
  const bytes = await readBytes(c.req.raw, REQUEST_BYTES_MAX)
  const endpoint = path(tenantName, c.req.param('model') ?? '', 'v1', 'chat', 'completions')
  return api.reply('POST', endpoint, new TextDecoder().decode(bytes))
}
