/** Where the real base model lies that `npm test` found or fetched. */
const path = process.env.NOZZLE_TEST_BASE_MODEL

/** null = there is none, and `baseModelReason` says why. */
export const baseModelPath: string | null = path || null
export const baseModelReason: string =
  process.env.NOZZLE_TEST_BASE_MODEL_MISSING ?? 'NOZZLE_TEST_BASE_MODEL is not set'

export function requireBaseModel(): string {
  if (baseModelPath === null) throw new Error(`no base model: ${baseModelReason}`)
  return baseModelPath
}
