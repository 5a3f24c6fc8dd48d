/** The residency map, for the operator: adapters by hosts, and in which tier each lies there. */
import { html } from 'hono/html'
import { type Content, type Html, integer, table } from './html.ts'
import { nameOf } from './pool-page.ts'
import type { Visit } from './visit.ts'
import { type PoolAdapters, poolAdapters } from './wire.ts'

type Adapter = PoolAdapters['data'][number]

export async function showResidencyPage({ api, show }: Visit): Promise<Response> {
  const map = await api.get('/v1/pool/adapters', poolAdapters)
  const { hosts, data, adapters_total: total } = map
  const shown = data.length < total ? `The ${integer(data.length)} most used of` : 'All'
  return show({
    title: 'Residency',
    content: html`<p class="help">Slot: in the engine, ready for the next step. RAM and disk: a load
away. An empty field: in the pool's store alone.</p>${table({
      caption: `${shown} ${integer(total)} adapters that hosts hold`,
      columns: [
        { head: 'Adapter' },
        ...hosts.map(({ host_id, host_name }) => ({ head: host_name || host_id })),
      ],
      rows: data.map((adapter) => [
        label(adapter),
        ...hosts.map(({ host_id }) => place(adapter, host_id)),
      ]),
      empty: 'No host holds an adapter.',
    })}`,
  })
}

/** Bytes that no model uses now are known by their digest alone. */
function label({ digest, models }: Adapter): Content {
  if (models.length === 0) return nameOf(digest.slice(0, 'sha256:'.length + 12), '')
  return models.map((name, i) => (i === 0 ? name : html`<br>${name}`))
}

function place({ hosts }: Adapter, hostId: string): Content {
  const held = hosts.find(({ host_id }) => host_id === hostId)
  if (held === undefined) return ''
  const { tier, sequences } = held
  return tierBadge(tier, sequences === 0 ? tier : `${tier} · ${sequences} running or waiting`)
}

function tierBadge(tier: string, text: string): Html {
  return html`<span class="badge tier-${tier}">${text}</span>`
}
