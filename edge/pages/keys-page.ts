/** A tenant's API keys: made (the secret is shown this once), listed, revoked. */
import { html } from 'hono/html'
import { SCOPES } from '../auth/authenticate.ts'
import { badge, type Content, code, type Html, moment, path, table } from './html.ts'
import { readForm, type Visit } from './visit.ts'
import { anything, keyList, newKey } from './wire.ts'

const SCOPE_TEXTS: Readonly<Record<(typeof SCOPES)[number], string>> = {
  generate: 'generate: ask models',
  deploy: 'deploy: manage models and keys, see usage and invoices',
}

export async function showKeysPage(visit: Visit): Promise<Response> {
  const { data } = await visit.api.get(apiPath(visit), keyList)
  const rows = data.map((key): Content[] => [
    html`<code>${key.start}…</code>`,
    key.name ?? '–',
    key.scopes.join(', '),
    moment(key.created_at),
    key.revoked_at === null ? badge('in force', 'good') : badge('revoked', 'plain'),
    key.revoked_at === null ? revocation(visit, key) : moment(key.revoked_at),
  ])
  return visit.show({
    title: 'Keys',
    content: html`${table({
      caption: `API keys of ${visit.tenantName}`,
      columns: ['Key', 'Name', 'May', 'Made', 'State', 'Revoke'].map((head) => ({ head })),
      rows,
      empty: 'There is no key.',
    })}${creation(visit)}`,
  })
}

function creation(visit: Visit): Html {
  return html`<form method="post" action="${pagePath(visit)}" class="card narrow">
<h2>New key</h2>
<label for="key-name">Name</label>
<input id="key-name" name="name" maxlength="100" autocomplete="off">
<fieldset><legend>It may</legend>${SCOPES.map(
    (scope) =>
      html`<label><input type="checkbox" name="scope" value="${scope}" checked>
${SCOPE_TEXTS[scope]}</label>`,
  )}</fieldset>
<button>Make the key</button>
</form>`
}

/** Two steps without a script: what is revoked stays so. */
function revocation(
  visit: Visit,
  { id, start }: { readonly id: string; readonly start: string },
): Html {
  return html`<details><summary>Revoke<span class="unseen"> ${start}</span></summary>
<form method="post" action="${pagePath(visit, id, 'revoke')}">
<button class="danger">Revoke for good</button></form></details>`
}

/** The one reply that holds the secret: it is not kept, here or in the browser. */
export async function createKey(visit: Visit): Promise<Response> {
  const form = await readForm(visit.c)
  const name = form.get('name')?.trim() || null
  const key = await visit.api.send('POST', apiPath(visit), newKey, {
    name,
    scopes: form.getAll('scope'),
  })
  return visit.show({
    title: 'New key',
    content: html`<section class="card">
<p><strong>Copy it now: it is not shown again.</strong> Nozzle keeps a hash alone.</p>
${code('API key', key.key)}
<p class="help">Its id is <code>${key.id}</code>.</p>
<p><a href="${pagePath(visit)}">Back to the keys</a></p></section>`,
  })
}

export async function revokeKey(visit: Visit): Promise<Response> {
  const id = visit.c.req.param('key') ?? ''
  await visit.api.send('DELETE', apiPath(visit, id), anything)
  return visit.c.redirect(`${pagePath(visit)}?done=revoked`, 303)
}

function apiPath({ tenantName }: Visit, ...rest: readonly string[]): string {
  return path('v1', 'tenants', tenantName, 'keys', ...rest)
}

function pagePath({ tenantName }: Visit, ...rest: readonly string[]): string {
  return path('ui', 't', tenantName, 'keys', ...rest)
}
