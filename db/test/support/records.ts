/**
 * Rows for tests: each call makes its own names, so that tests share a database without meeting.
 */
import { randomUUID } from 'node:crypto'
import type { Db } from '../../database.ts'
import type { Heartbeat } from '../../heartbeat.ts'
import { createId } from '../../ids.ts'
import type { NewAdapterVersion } from '../../queries/adapter-versions.ts'
import { upsertBaseModel } from '../../queries/base-models.ts'
import { createTenant, type Tenant } from '../../queries/tenants.ts'
import type { UsageEvent } from '../../usage-event.ts'

export const uniqueName = (start: string) => `${start}-${randomUUID().slice(0, 13)}`

export async function addTenant(db: Db): Promise<Tenant> {
  const tenant = await createTenant(db, { name: uniqueName('tenant') })
  if (!tenant) throw new Error('a random name was taken')
  return tenant
}

export async function addBaseModel(db: Db): Promise<string> {
  const name = uniqueName('base')
  await upsertBaseModel(db, { name, digest: `sha256:${'b'.repeat(64)}` })
  return name
}

export function createAdapter(
  tenantId: string,
  change: Partial<NewAdapterVersion> = {},
): NewAdapterVersion {
  return {
    tenantId,
    modelName: 'support-bot',
    digest: `sha256:${'a'.repeat(64)}`,
    baseModel: 'smollm2',
    baseDigest: `sha256:${'b'.repeat(64)}`,
    rank: 16,
    alpha: 32.5,
    useRslora: false,
    targetModules: ['q_proj', 'v_proj'],
    tensors: 120,
    packBytes: 9_800_000,
    ...change,
  }
}

const ENDED_AT = '2026-11-01T10:00:01.000Z'

export function createEvent(tenantId: string, change: Partial<UsageEvent> = {}): UsageEvent {
  return {
    // Billed in the month that it ended in.
    request_id: createId('req', Date.parse(change.ended_at ?? ENDED_AT)),
    attempt: 1,
    tenant_id: tenantId,
    key_id: 'key_0123456789ab',
    model: 'support-bot',
    model_id: 'mod_1',
    adapter_version_id: 'ver_1',
    adapter_digest: `sha256:${'a'.repeat(64)}`,
    base_model: 'smollm2',
    price_version_id: null,
    lease_ids: [],
    host_id: 'hst_1',
    epoch: 1,
    prompt_tokens: 100,
    cached_prompt_tokens: 40,
    completion_tokens: 25,
    finish_reason: 'stop',
    gpu_us: 1500,
    queue_us: 20,
    ttft_us: 700,
    swap_us: 0,
    adapter_bytes: 0,
    adapter_source: 'slot',
    started_at: '2026-11-01T10:00:00.000Z',
    ended_at: ENDED_AT,
    source: 'engine',
    ...change,
  }
}

export function createHeartbeat(change: Partial<Heartbeat> = {}): Heartbeat {
  const hostId = uniqueName('hst')
  return {
    host_id: hostId,
    host_name: 'gpu-1',
    epoch: 7,
    beat: 1,
    uptime_ms: 60_000,
    engine: 'native',
    url: `http://${hostId}.invalid:9000`,
    version: '0.1.0',
    base_model: 'smollm2',
    base_digest: `sha256:${'b'.repeat(64)}`,
    status: 'ready',
    load: {
      sequences_running: 3,
      sequences_max: 16,
      queue_depth: 0,
      queue_depth_max: 256,
      slots: 8,
      slots_in_use: 2,
      kv_tokens_max: 16_384,
      kv_tokens_free: 12_000,
      wait_ms: 0,
    },
    context_length: 2048,
    adapters: [{ digest: `sha256:${'a'.repeat(64)}`, tier: 'slot', sequences: 3 }],
    ...change,
  }
}
