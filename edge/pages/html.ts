/**
 * Pieces that pages are made of. Everything that is put into a template is escaped by Hono's
 * `html`; no file of the pages uses its `raw`.
 */
import { html } from 'hono/html'
import { formatUsd } from '#db/money.ts'

export type Html = ReturnType<typeof html>
/** What a template takes in a place for content. */
export type Content = Html | string | number | null | readonly Content[]

export interface Column {
  readonly head: string
  /** Stands right, in digits of one width. */
  readonly isNumber?: boolean
}

export interface TableWish {
  /** What the table is of; read out, and shown above it. */
  readonly caption: string
  readonly columns: readonly Column[]
  readonly rows: readonly (readonly Content[])[]
  /** What stands there instead when no row does. */
  readonly empty: string
}

/** A table that scrolls by itself where it is too wide, with a mouse and with a keyboard. */
export function table({ caption, columns, rows, empty }: TableWish): Html {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`
  const cell = (content: Content, i: number): Html => {
    const style = columns[i]?.isNumber ? 'number' : ''
    return i === 0
      ? html`<th scope="row" class="${style}">${content}</th>`
      : html`<td class="${style}">${content}</td>`
  }
  return html`<div class="scroll" role="region" tabindex="0" aria-label="${caption}">
    <table>
      <caption>${caption}</caption>
      <thead><tr>${columns.map(
        ({ head, isNumber }) =>
          html`<th scope="col" class="${isNumber ? 'number' : ''}">${head}</th>`,
      )}</tr></thead>
      <tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>`)}</tbody>
    </table>
  </div>`
}

/** A figure with what it is of. */
export interface Fact {
  readonly name: string
  readonly value: Content
}

export function facts(list: readonly Fact[]): Html {
  return html`<dl class="facts">${list.map(
    ({ name, value }) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`,
  )}</dl>`
}

export type Tone = 'good' | 'warn' | 'bad' | 'plain'

/** A word that stands out; its colour never says more than the word. */
export function badge(text: string, tone: Tone): Html {
  return html`<span class="badge ${tone}">${text}</span>`
}

/** A text to copy; the script of the pages puts a button beside it. */
export function code(label: string, text: string): Html {
  const inner = html`<code>${text}</code>`
  return html`<div class="code">
<pre tabindex="0" role="region" aria-label="${label}">${inner}</pre></div>`
}

/** A moment in UTC, to the minute. */
export function moment(time: Date | null): Content {
  if (time === null) return '–'
  const iso = time.toISOString()
  return html`<time datetime="${iso}">${iso.slice(0, 16).replace('T', ' ')} UTC</time>`
}

export function integer(value: number | string): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ' ')
}

/** Exact. */
export function usd(pusd: bigint): string {
  return `$${formatUsd(pusd)}`
}

export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const unit = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10))
  return `${(count / 1024 ** unit).toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`
}

/** A path with each part escaped. */
export function path(...parts: readonly string[]): string {
  return `/${parts.map(encodeURIComponent).join('/')}`
}
