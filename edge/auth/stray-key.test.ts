import { expect, it } from 'vitest'
import { createApiKey } from './api-key.ts'
import { refuseKeyInQuery, withoutKeys } from './stray-key.ts'

const url = 'https://nozzle.test/v1/models'

it('refuses a key in the query, under whatever name, and every name that stands for one', async () => {
  const key = await createApiKey()
  for (const query of [
    `api_key=${key}`,
    `x=${key}`,
    `${key}`,
    `a=b&c=Bearer%20${key}`,
    `c=%6e%7a${key.slice(2)}`,
    'api_key=sk-123',
    'API_KEY=',
    'apikey=x',
    'access_token=x',
    'Authorization=Bearer',
  ]) {
    expect(() => refuseKeyInQuery(`${url}?${query}`), query).toThrow('in the query string')
  }
})

it('lets other queries be, those about keys too', async () => {
  const id = (await createApiKey()).slice(3, 15)
  for (const query of [
    '',
    'limit=5',
    `api_key_ids=key_${id}`,
    `start=nz_${id}`,
    'key=nz_short_x',
  ]) {
    expect(() => refuseKeyInQuery(`${url}?${query}`), query).not.toThrow()
  }
  expect(() => refuseKeyInQuery(url)).not.toThrow()
})

it('leaves of a key in a text what names it', async () => {
  const [a, b] = [await createApiKey(), await createApiKey()]
  const said = withoutKeys(JSON.stringify({ path: `/v1/${a}/x`, reason: `no ${b}, ${b}` }))
  expect(said).not.toContain(a.slice(-38))
  expect(said).not.toContain(b.slice(-38))
  expect(said.split(b.slice(0, 15))).toHaveLength(3)
  expect(withoutKeys('nothing')).toBe('nothing')
})
