/**
 * One model: its endpoint with requests to copy, its versions, and the forms that change which of
 * them serve.
 */
import { html } from 'hono/html'
import { invalid } from '../errors.ts'
import { bytes, type Content, code, facts, type Html, moment, path, table } from './html.ts'
import { serving } from './models-page.ts'
import type { Notice } from './notices.ts'
import { snippetsFor } from './snippets.ts'
import { readForm, type Visit } from './visit.ts'
import { anything, type ModelDetail, modelDetail } from './wire.ts'

export async function showModelPage(visit: Visit): Promise<Response> {
  const model = await visit.api.get(apiPath(visit), modelDetail)
  const here = pagePath(visit)
  return visit.show({
    title: model.name,
    content: html`${facts([
      { name: 'Serves', value: serving(model) },
      { name: 'Base model', value: model.base_model },
      { name: 'Versions', value: model.versions },
      { name: 'Deployed', value: moment(model.deployed_at) },
    ])}
<section><h2>Versions</h2>
${versions(model)}
${model.versions > 1 ? changes(model, here) : null}
</section>
<section><h2>Endpoint</h2>
${code('Base URL', model.endpoint)}
<p>It speaks OpenAI's API. Set <code>NOZZLE_API_KEY</code> to a key of the tenant.</p>
${snippetsFor(model).map(({ label, text }) => html`<h3>${label}</h3>${code(label, text)}`)}
</section>`,
  })
}

function versions(model: ModelDetail): Html {
  return table({
    caption: `Versions of ${model.name}, newest first`,
    columns: [
      { head: 'Version' },
      { head: 'Serves' },
      { head: 'Rank', isNumber: true },
      { head: 'Alpha', isNumber: true },
      { head: 'Targets' },
      { head: 'Size', isNumber: true },
      { head: 'Made' },
      { head: 'Digest' },
    ],
    rows: model.history.map((row) => [
      `v${row.version}`,
      shareOf(model, row.version),
      row.rank,
      row.alpha,
      row.target_modules.join(', '),
      bytes(row.pack_bytes),
      moment(row.created_at),
      html`<code title="${row.digest}">${row.digest.slice('sha256:'.length, 19)}</code>`,
    ]),
    empty: 'No version is there.',
  })
}

function shareOf({ version, canary }: ModelDetail, asked: number): Content {
  if (asked === canary?.version) return `canary, ${canary.weight}%`
  return asked === version ? `main, ${100 - (canary?.weight ?? 0)}%` : '–'
}

/** Three forms; each works without a script. */
function changes(model: ModelDetail, here: string): Html {
  const others = model.history.map(({ version }) => version).filter((v) => v !== model.version)
  const options = (chosen: number | undefined): Html[] =>
    others.map((version) =>
      version === chosen
        ? html`<option value="${version}" selected>v${version}</option>`
        : html`<option value="${version}">v${version}</option>`,
    )
  const { canary, replaced_version: replaced } = model
  return html`<div class="cards">
<form method="post" action="${here}/canary" class="card">
<h3>Canary</h3>
<label for="canary-version">Version beside v${model.version}</label>
<select id="canary-version" name="version">${options(canary?.version)}</select>
<label for="canary-weight">Percent of requests that it gets</label>
<div class="slider"><input id="canary-weight" name="weight" type="range" min="1" max="99" step="1"
  value="${canary?.weight || 10}"><output for="canary-weight"></output></div>
<button>${canary === null ? 'Start the canary' : 'Change its share'}</button>
</form>
${canary === null ? null : ending(canary.version, here)}
<form method="post" action="${here}/rollback" class="card">
<h3>Roll back</h3>
<label for="rollback-to">Version that gets every request</label>
<select id="rollback-to" name="to">${options(replaced ?? undefined)}</select>
<button>Roll back</button>
</form>
</div>`
}

function ending(version: number, here: string): Html {
  return html`<div class="card">
<h3>Canary v${version}</h3>
<form method="post" action="${here}/promote"><button>Promote v${version} to main</button></form>
<form method="post" action="${here}/end-canary"><button class="quiet">End the canary</button></form>
</div>`
}

export async function changeCanary(visit: Visit): Promise<Response> {
  const form = await readForm(visit.c)
  const weight = wholeNumber(form, 'weight')
  const { version } = await visit.api.get(apiPath(visit), modelDetail)
  const versions = [
    { version, weight: 100 - weight },
    { version: wholeNumber(form, 'version'), weight },
  ]
  await visit.api.send('PATCH', `${apiPath(visit)}/deployment`, anything, { versions })
  return done(visit, 'canary')
}

export async function endCanary(visit: Visit): Promise<Response> {
  const { version } = await visit.api.get(apiPath(visit), modelDetail)
  const versions = [{ version, weight: 100 }]
  await visit.api.send('PATCH', `${apiPath(visit)}/deployment`, anything, { versions })
  return done(visit, 'ended')
}

export async function promote(visit: Visit): Promise<Response> {
  await visit.api.send('POST', `${apiPath(visit)}/promote`, anything)
  return done(visit, 'promoted')
}

export async function rollBack(visit: Visit): Promise<Response> {
  const to = wholeNumber(await readForm(visit.c), 'to')
  await visit.api.send('POST', `${apiPath(visit)}/rollback`, anything, { to })
  return done(visit, 'rolled-back')
}

/** What is no number is refused here; whether it is a good one says the API. */
function wholeNumber(form: URLSearchParams, field: string): number {
  const text = form.get(field) ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw invalid(field, 'must be a whole number')
}

function done(visit: Visit, notice: Notice): Response {
  return visit.c.redirect(`${pagePath(visit)}?done=${notice}`, 303)
}

function modelName({ c }: Visit): string {
  return c.req.param('model') ?? ''
}

function apiPath(visit: Visit): string {
  return path('v1', 'tenants', visit.tenantName, 'models', modelName(visit))
}

function pagePath(visit: Visit): string {
  return path('ui', 't', visit.tenantName, 'models', modelName(visit))
}
