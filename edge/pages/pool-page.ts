/** The pool's hosts, for the operator: state, load, wait, and what is wrong. */
import { html } from 'hono/html'
import { type Alarm, findAlarms } from './alarms.ts'
import { badge, type Content, type Html, integer, moment, type Tone, table } from './html.ts'
import type { Visit } from './visit.ts'
import { bookLag, type HostReport, type HostView, healthReply, hostList } from './wire.ts'

export async function showPoolPage({ api, nowMs, show }: Visit): Promise<Response> {
  const [hosts, health, lag] = await Promise.all([
    api.get('/v1/hosts', hostList),
    api.get('/healthz', healthReply),
    api.get('/v1/pool/books/lag', bookLag),
  ])
  const alarms = findAlarms({ hosts: hosts.data, health, lag, nowMs })
  return show({
    title: 'Hosts',
    content: html`${alarmList(alarms)}${table({
      caption: 'Hosts of the pool, as each last reported',
      columns: [
        { head: 'Host' },
        { head: 'State' },
        { head: 'Base model' },
        { head: 'Running', isNumber: true },
        { head: 'Waiting', isNumber: true },
        { head: 'Wait', isNumber: true },
        { head: 'Slots', isNumber: true },
        { head: 'KV used', isNumber: true },
        { head: 'Adapters (slot / RAM / disk)', isNumber: true },
        { head: 'Heard' },
      ],
      rows: hosts.data.map(toRow),
      empty: 'No host has reported yet.',
    })}`,
  })
}

function alarmList(alarms: readonly Alarm[]): Html {
  if (alarms.length === 0) return html`<p class="notice">Nothing is wrong that is known here.</p>`
  return html`<section aria-labelledby="alarms"><h2 id="alarms">Alarms</h2>
<ul class="alarms">${alarms.map(
    ({ level, text }) =>
      html`<li>${badge(level === 'bad' ? 'alarm' : 'warning', level)} ${text}</li>`,
  )}</ul></section>`
}

const TONES: Readonly<Record<HostView['status'], Tone>> = {
  ready: 'good',
  draining: 'warn',
  silent: 'bad',
  gone: 'plain',
}

function toRow(host: HostView): Content[] {
  const state = badge(host.status, TONES[host.status])
  const heard = moment(host.last_seen_at)
  if (host.status === 'gone') {
    return [nameOf(host.host_id, ''), state, ...Array<string>(7).fill('–'), heard]
  }
  const { load, adapters } = host
  return [
    nameOf(host.host_id, host.host_name),
    state,
    host.base_model,
    `${load.sequences_running} / ${load.sequences_max}`,
    `${load.queue_depth} / ${load.queue_depth_max}`,
    `${integer(load.wait_ms)} ms`,
    `${load.slots_in_use} / ${load.slots}`,
    kvUsed(host),
    `${adapters.slot} / ${adapters.ram} / ${adapters.disk}`,
    heard,
  ]
}

export function nameOf(id: string, name: string): Content {
  return name === '' ? html`<code>${id}</code>` : html`${name} <code class="id">${id}</code>`
}

/** A host that does not say how many it has says zero. */
function kvUsed({ load }: HostReport): string {
  const { kv_tokens_max: max, kv_tokens_free: free } = load
  return max === 0 ? '–' : `${Math.round(((max - free) / max) * 100)}%`
}
