/** What is to be known of an edge on Node to write its files: flags → plan → its environment. */
import type { FlagSpecs, Flags } from '../lib/argv.ts'
import { checkedFlag, httpUrl, readServicePlan, type ServicePlan } from './release-flags.ts'
import type { SecretName, Setting } from './setting.ts'

export const EDGE_RELEASE_FLAGS: FlagSpecs = {
  'public-url': { type: 'string', value: 'url', help: 'where clients reach it, through TLS' },
}

const DEFAULTS = { port: 8787, memoryGib: 1, image: 'nozzle-edge', replicas: 2, replicasMax: 10 }
/** An edge lets streams run on for 30 s, closes its database within 10 s, and 5 s more. */
export const EDGE_STOP_S = 45

export interface EdgePlan extends ServicePlan {
  /** null = as requests are addressed. */
  readonly publicUrl: string | null
}

/** Throws `usage`, naming the flag. */
export function readEdgePlan(flags: Flags): EdgePlan {
  return {
    ...readServicePlan(flags, DEFAULTS),
    publicUrl: checkedFlag(flags, 'public-url', httpUrl, 'is an http or https URL') ?? null,
  }
}

/** @param address to listen on. */
export function toEdgeSettings(plan: EdgePlan, address: string): Setting[] {
  return [
    {
      name: 'NOZZLE_ADDRESS',
      value: address,
      why: 'TLS ends before it: in a proxy or an ingress.',
    },
    { name: 'NOZZLE_PORT', value: String(plan.port), why: 'For that proxy, and for the hosts.' },
    ...(plan.publicUrl === null
      ? []
      : [
          {
            name: 'NOZZLE_PUBLIC_URL',
            value: plan.publicUrl,
            why: 'Where clients reach it: in endpoints and snippets.',
          } as const,
        ]),
    {
      name: 'NOZZLE_BASE_MODEL_NAME',
      value: plan.baseModelName,
      why: 'The pool that it serves from.',
    },
  ]
}

export const EDGE_SECRETS: readonly SecretName[] = [
  { name: 'NOZZLE_POOL_SECRET', why: "the hosts' own; signs every call between them" },
  { name: 'NOZZLE_KEY_PEPPER', why: 'hashes API keys; with another one all keys are lost' },
  { name: 'NOZZLE_OPERATOR_KEY', why: 'the key that may do everything' },
  { name: 'NOZZLE_DATABASE_URL', why: 'postgres://…, the record of all edges' },
]
