/** Names as clients write them: `[<tenant>/]<model>[@<version>]`. */

export interface ModelReference {
  /** null = the caller's own. */
  readonly tenantName: string | null
  readonly modelName: string
  /** null = the deployed one. */
  readonly version: number | null
}

export const TENANT_NAME = /^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$/
/** No `/` and no `@`, which separate; no `.` or `-` at the ends. */
export const MODEL_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/

/** First parts of paths, or words that would read as one. */
const RESERVED_TENANTS = new Set(
  'admin api app assets docs healthz internal login logout metrics nozzle openapi operator public readyz root signup static status system tenants usage v1 v2 www'.split(
    ' ',
  ),
)

export function isTenantName(name: string): boolean {
  return TENANT_NAME.test(name) && !RESERVED_TENANTS.has(name)
}

/** null when it cannot name a model. */
export function parseModelReference(text: string): ModelReference | null {
  const [, tenantName, modelName, digits] =
    /^(?:([^/@]+)\/)?([^/@]+)(?:@([1-9]\d{0,8}))?$/.exec(text) ?? []
  if (modelName === undefined || !MODEL_NAME.test(modelName)) return null
  return {
    tenantName: tenantName ?? null,
    modelName,
    version: digits === undefined ? null : Number(digits),
  }
}
