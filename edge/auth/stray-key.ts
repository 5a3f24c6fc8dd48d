/**
 * API keys where none may stand. A query ends up in logs, histories and referrers of whoever is on
 * the way, so a key in it is refused unread, right or wrong, whatever the header says. A key in a
 * path is no key of anything; it must not get into our own log.
 */
import type { Context } from 'hono'
import { EdgeError } from '../errors.ts'

/** Names under which other APIs take keys in a query. */
const KEY_PARAMETERS = new Set(['api_key', 'api-key', 'apikey', 'access_token', 'authorization'])
const KEY_TEXT = /nz_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}/g

/** For every route: throws as refuseKeyInQuery does. */
export function keysInHeadersOnly(c: Context, next: () => Promise<void>): Promise<void> {
  refuseKeyInQuery(c.req.url)
  return next()
}

/** Throws `invalid_request` when the query has a key, or a place for one. */
export function refuseKeyInQuery(url: string): void {
  const start = url.indexOf('?')
  if (start === -1) return
  const isKey = ([name, value]: [string, string]): boolean =>
    KEY_PARAMETERS.has(name.toLowerCase()) || hasKey(name) || hasKey(value)
  if (![...new URLSearchParams(url.slice(start + 1))].some(isKey)) return
  throw new EdgeError(
    'invalid_request',
    'A key in the query string is not read: send it as the header "Authorization: Bearer nz_…". If it was a real one, revoke it, since queries are logged by whoever passes them on.',
  )
}

function hasKey(text: string): boolean {
  return text.search(KEY_TEXT) !== -1
}

/** The text with each key cut to what may be shown of it. */
export function withoutKeys(text: string): string {
  return text.replaceAll(KEY_TEXT, (key) => `${key.slice(0, 'nz_'.length + 12)}_…`)
}
