/** Tenants, their API keys and their limits. */
import { z } from 'zod'
import { SCOPES } from '../../auth/authenticate.ts'
import { keyBody } from '../../routes/keys.ts'
import { limitsBody } from '../../routes/limits.ts'
import { tenantBody, tenantChanges } from '../../routes/tenants.ts'
import { count, listOf, type Operation, ok, pusd, time } from '../operation.ts'

const TENANT = '/v1/tenants/:tenant'
const scopes = z.array(z.enum(SCOPES))

const caller = z.strictObject({
  tenant: z
    .strictObject({ id: z.string(), name: z.string() })
    .nullable()
    .describe('null = the operator.'),
  key_id: z.string().nullable(),
  scopes: scopes.nullable(),
})
const tenant = z.strictObject({
  id: z.string(),
  name: z.string(),
  weight: z.int().describe('Share of a busy host, against other tenants’.'),
  created_at: time,
})
const key = z.strictObject({
  id: z.string(),
  start: z.string().describe('How its secret begins.'),
  name: z.string().nullable(),
  scopes,
  created_at: time,
  revoked_at: time.nullable(),
})
const newKey = z.strictObject({
  id: z.string(),
  key: z.string().describe('The secret, which is shown this once.'),
  name: z.string().nullable(),
  scopes,
  created_at: time,
})
const limit = count.nullable().describe('null = no limit.')
const limits = z.strictObject({
  key_id: z.string().nullable().describe("null = the tenant's own."),
  requests_per_minute: limit,
  tokens_per_minute: limit,
  concurrency: limit,
  monthly_spend_pusd: pusd.nullable(),
  updated_at: time,
})
const removedLimits = z.strictObject({ key_id: z.string().nullable(), removed: z.literal(true) })

const limitOperations = (path: string, of: 'Tenant' | 'Key', who: string): Operation[] => {
  const shared = {
    group: 'Tenants',
    path: `${path}/limits`,
    caller: of === 'Tenant' ? 'operator' : 'deploy',
  } as const
  return [
    {
      ...shared,
      method: 'patch',
      id: `change${of}Limits`,
      summary: `Change limits of ${who}`,
      description: 'What is absent stays as it is; null takes a limit away.',
      body: { schema: limitsBody },
      replies: { 200: ok('As they are now.', limits) },
    },
    {
      ...shared,
      method: 'delete',
      id: `remove${of}Limits`,
      summary: `Take all limits of ${who} away`,
      replies: { 200: ok('None is left.', removedLimits) },
    },
  ]
}

export const TENANT_OPERATIONS: readonly Operation[] = [
  {
    group: 'Tenants',
    method: 'get',
    path: '/v1/whoami',
    id: 'showCaller',
    summary: 'Whose key this is',
    caller: 'key',
    replies: { 200: ok('The caller.', caller) },
  },
  {
    group: 'Tenants',
    method: 'post',
    path: '/v1/tenants',
    id: 'createTenant',
    summary: 'Add a tenant',
    caller: 'operator',
    body: { schema: tenantBody },
    replies: { 201: ok('The new tenant.', tenant) },
  },
  {
    group: 'Tenants',
    method: 'get',
    path: '/v1/tenants',
    id: 'listTenants',
    summary: 'All tenants',
    caller: 'operator',
    replies: { 200: ok('Tenants.', listOf(tenant)) },
  },
  {
    group: 'Tenants',
    method: 'get',
    path: TENANT,
    id: 'showTenant',
    summary: 'One tenant',
    caller: 'operator',
    replies: { 200: ok('The tenant.', tenant) },
  },
  {
    group: 'Tenants',
    method: 'patch',
    path: TENANT,
    id: 'changeTenant',
    summary: 'Change a tenant’s weight',
    caller: 'operator',
    body: { schema: tenantChanges },
    replies: { 200: ok('As it is now.', tenant) },
  },
  {
    group: 'Tenants',
    method: 'post',
    path: `${TENANT}/keys`,
    id: 'createKey',
    summary: 'Make an API key',
    caller: 'deploy',
    body: { schema: keyBody, isOptional: true },
    replies: { 201: ok('The key, with its secret.', newKey) },
  },
  {
    group: 'Tenants',
    method: 'get',
    path: `${TENANT}/keys`,
    id: 'listKeys',
    summary: 'A tenant’s API keys',
    caller: 'deploy',
    replies: { 200: ok('Keys, without secrets.', listOf(key)) },
  },
  {
    group: 'Tenants',
    method: 'delete',
    path: `${TENANT}/keys/:key`,
    id: 'revokeKey',
    summary: 'Revoke an API key',
    caller: 'deploy',
    replies: {
      200: ok('Revoked.', z.strictObject({ id: z.string(), revoked_at: time.nullable() })),
    },
  },
  {
    group: 'Tenants',
    method: 'get',
    path: `${TENANT}/limits`,
    id: 'listLimits',
    summary: 'Limits of a tenant and of its keys',
    caller: 'deploy',
    replies: { 200: ok('Limits that are set.', listOf(limits)) },
  },
  ...limitOperations(TENANT, 'Tenant', 'a tenant'),
  ...limitOperations(`${TENANT}/keys/:key`, 'Key', 'an API key'),
]
