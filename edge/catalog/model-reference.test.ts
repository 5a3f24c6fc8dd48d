import { expect, it } from 'vitest'
import { isTenantName, parseModelReference } from './model-reference.ts'

it.each([
  ['support', { tenantName: null, modelName: 'support', version: null }],
  ['support@12', { tenantName: null, modelName: 'support', version: 12 }],
  ['acme/support', { tenantName: 'acme', modelName: 'support', version: null }],
  ['acme/sup.port_2-x@3', { tenantName: 'acme', modelName: 'sup.port_2-x', version: 3 }],
])('reads %s', (text, reference) => {
  expect(parseModelReference(text)).toEqual(reference)
})

it.each([
  '',
  '/',
  'a/b/c',
  'acme/',
  '/support',
  'support@',
  'support@0',
  'support@-1',
  'support@1.5',
  'support@x',
  '.support',
  'support-',
  'sup port',
  `${'x'.repeat(65)}`,
])('refuses %j', (text) => {
  expect(parseModelReference(text)).toBeNull()
})

it('keeps tenant names apart from paths', () => {
  for (const name of ['acme', 'a-b', 'x00']) expect(isTenantName(name)).toBe(true)
  for (const name of [
    'v1',
    'internal',
    'healthz',
    'docs',
    'admin',
    'ab',
    '-ab',
    'ab-',
    'Acme',
    'a_b',
  ]) {
    expect(isTenantName(name)).toBe(false)
  }
})
