/**
 * The API document as one HTML page: no script, no font, nothing that is loaded from anywhere, so
 * it reads the same without a network. Dark where the reader's system is.
 */
import { html, raw } from 'hono/html'
import type { ApiDocument, ApiOperation } from './document.ts'
import { isSchema, kindOf, type SchemaRow, toSchemaRows } from './schema-rows.ts'

type Html = ReturnType<typeof html>

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --ink: light-dark(#175, #6d9); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; }
h3 { font: 600 1rem/1.4 ui-monospace, monospace; margin-top: 2.5rem; overflow-wrap: anywhere; }
h3 b { color: var(--ink); text-transform: uppercase; }
h4 { margin: 1rem 0 0.25rem; }
nav ul { columns: 18rem; padding-left: 1.2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); padding: 0.2rem 0.5rem; text-align: left; }
td { vertical-align: top; }
td:first-child { font-family: ui-monospace, monospace; white-space: nowrap; }
details { background: var(--soft); margin: 0.25rem 0; padding: 0.25rem 0.5rem; }
summary { cursor: pointer; }
code { font-family: ui-monospace, monospace; }
`

interface Entry {
  readonly method: string
  readonly path: string
  readonly operation: ApiOperation
}

export function renderReference(document: ApiDocument): string {
  const { info, tags, paths } = document
  const entries = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  )
  const groups = tags.map((tag) => ({
    ...tag,
    entries: entries.filter(({ operation }) => operation.tags.includes(tag.name)),
  }))
  return String(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${info.title} API reference</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<header>
<h1>${info.title} API reference</h1>
<p>${toCode(info.description)} The same as a document: <a href="/openapi.json">openapi.json</a>.</p>
</header>
<nav aria-label="Operations">
${groups.map(
  (group) => html`<p><a href="#${group.name}">${group.name}</a></p><ul>
${group.entries.map(
  ({ operation }) => html`<li><a href="#${operation.operationId}">${operation.summary}</a></li>`,
)}
</ul>`,
)}
</nav>
<main>
${groups.map(
  (group) => html`<h2 id="${group.name}">${group.name}</h2><p>${group.description}</p>
${group.entries.map(operationPart)}`,
)}
<h2 id="Error">Failures</h2>
${schemaPart('Error', errorSchema(document))}
</main>
</body>
</html>
`)
}

function operationPart({ method, path, operation }: Entry): Html {
  const { operationId, summary, description, parameters, requestBody, responses } = operation
  return html`<section aria-labelledby="${operationId}">
<h3 id="${operationId}"><b>${method}</b> ${path}</h3>
<p>${summary}. ${toCode(description)}</p>
${
  parameters.length > 0 &&
  html`<h4>Parameters</h4>${rowsPart(
    parameters.map((parameter) => ({
      name: parameter.name,
      depth: 0,
      kind: `${kindOf(parameter.schema)}, in the ${parameter.in}`,
      isRequired: parameter.required,
      note: parameter.description ?? '',
    })),
  )}`
}
${contentsOf(requestBody).map(([type, content]) => schemaPart(`Body, ${type}`, content.schema))}
${Object.entries(responses)
  .filter(([status]) => /^\d+$/.test(status))
  .map(([status, response]) =>
    contentsOf(response).map(([type, content]) =>
      schemaPart(
        `${status}, ${type}: ${response.description}`,
        content['x-frame'] ?? content.schema,
      ),
    ),
  )}
</section>`
}

/** Folded: most readers want one of many. */
function schemaPart(title: string, schema: unknown): Html {
  if (!isSchema(schema)) return html``
  return html`<details><summary>${title}</summary>${rowsPart(toSchemaRows(schema))}</details>`
}

function rowsPart(rows: readonly SchemaRow[]): Html {
  return html`<table>
<thead><tr><th scope="col">Field</th><th scope="col">Kind</th><th scope="col">Note</th></tr></thead>
<tbody>
${rows.map(
  ({ name, depth, kind, isRequired, note }) => html`<tr>
<td>${'\u2003'.repeat(depth)}${name || '(all of it)'}</td>
<td>${kind}${isRequired ? '' : ', optional'}</td><td>${toCode(note)}</td></tr>`,
)}
</tbody></table>`
}

/** Text between backticks as code. */
function toCode(text: string): Html[] {
  return text
    .split('`')
    .map((part, index) => (index % 2 === 0 ? html`${part}` : html`<code>${part}</code>`))
}

function contentsOf(holder: unknown): [string, Readonly<Record<string, unknown>>][] {
  if (!isSchema(holder) || !isSchema(holder.content)) return []
  return Object.entries(holder.content).flatMap(([type, content]) =>
    isSchema(content) ? [[type, content]] : [],
  )
}

function errorSchema({ components }: ApiDocument): unknown {
  return isSchema(components.schemas) ? components.schemas.Error : null
}
