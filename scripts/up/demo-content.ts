/**
 * What a first start puts into an embedded pool: the tenant `demo`, its key, and the example
 * adapters as its models. Later starts find all of it and change nothing.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { type ApiTarget, callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import { type DataDir, readDemoKey, writePrivateFile } from '../lib/data-dir.ts'
import { deployAdapter } from '../lib/deploy-adapter.ts'
import { createdKey, modelDetail, modelList, tenantList, tenantReply } from '../lib/edge-replies.ts'
import { DEMO_TENANT } from '../lib/edge-target.ts'
import { findPeftFiles, type PeftFiles } from '../lib/peft-directory.ts'
import { noteProgress } from '../lib/upload-progress.ts'
import { DEFAULT_BASE_MODEL } from '../setup/base-model.ts'

export interface DemoOptions {
  readonly operator: ApiTarget
  readonly dir: DataDir
  readonly projectRoot: string
  readonly baseModelName: string
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

export interface DemoModel {
  readonly name: string
  readonly endpoint: string
}

/** Model → what was deployed from which files: known files need no second version. */
const deployedFile = z.record(
  z.string(),
  z.object({
    source_sha256: z.string(),
    digest: z.string(),
    /** Of the tenant `demo` then: another one is another database. */
    tenant_id: z.string().optional(),
  }),
)

const MODELS_PATH = toPath('v1', 'tenants', DEMO_TENANT, 'models')

/** The models of the tenant `demo`, after making sure of it, its key and the examples. */
export async function ensureDemoContent(options: DemoOptions): Promise<readonly DemoModel[]> {
  const { operator, signal } = options
  const tenantId = await ensureTenant(options)
  await ensureKey(options)
  await ensureExamples(options, tenantId)
  const request = { method: 'GET', path: MODELS_PATH, signal } as const
  return (await callEdge(operator, request, modelList)).data
}

/** Resolves to its id. */
async function ensureTenant({ operator, signal }: DemoOptions): Promise<string> {
  const path = '/v1/tenants'
  const tenants = await callEdge(operator, { method: 'GET', path, signal }, tenantList)
  const known = tenants.data.find(({ name }) => name === DEMO_TENANT)
  if (known) return known.id
  const json = { name: DEMO_TENANT }
  return (await callEdge(operator, { method: 'POST', path, json, signal }, tenantReply)).id
}

async function ensureKey({ operator, dir, signal }: DemoOptions): Promise<void> {
  const known = readDemoKey(dir)
  if (known && (await isAccepted({ ...operator, apiKey: known }, signal))) return
  const path = toPath('v1', 'tenants', DEMO_TENANT, 'keys')
  const json = { name: 'demo' }
  const { key } = await callEdge(operator, { method: 'POST', path, json, signal }, createdKey)
  writePrivateFile(dir.demoKeyFile, `${key}\n`)
}

async function isAccepted(target: ApiTarget, signal: AbortSignal): Promise<boolean> {
  try {
    await callEdge(target, { method: 'GET', path: MODELS_PATH, signal }, modelList)
    return true
  } catch (error) {
    if (error instanceof CliError && error.reason === 'unauthorized') return false
    throw error
  }
}

async function ensureExamples(options: DemoOptions, tenantId: string): Promise<void> {
  const { operator, dir, projectRoot, baseModelName, note, signal } = options
  if (baseModelName !== DEFAULT_BASE_MODEL.name) {
    note(`the example adapters are for ${DEFAULT_BASE_MODEL.name}: none deployed`)
    return
  }
  const recordPath = join(dir.root, 'examples.json')
  const record = readRecord(recordPath)
  for (const files of findExamples(projectRoot)) {
    const model = basename(files.directory)
    const source_sha256 = hashFiles(files)
    const known = record[model]
    const isKnown = known?.source_sha256 === source_sha256
    // Where the tenant had the model, and has it no more, somebody removed it.
    if (isKnown && known.tenant_id === tenantId) continue
    if (isKnown && (await hasVersion(options, model, known.digest))) {
      record[model] = { ...known, tenant_id: tenantId }
      writePrivateFile(recordPath, `${JSON.stringify(record, null, 2)}\n`)
      continue
    }
    note(`deploying the example adapter ${model}`)
    const progress = noteProgress(note)
    const request = { tenant: DEMO_TENANT, model, files, progress, signal }
    const { digest } = await deployAdapter(operator, request)
    record[model] = { source_sha256, digest, tenant_id: tenantId }
    writePrivateFile(recordPath, `${JSON.stringify(record, null, 2)}\n`)
  }
}

function readRecord(path: string): z.infer<typeof deployedFile> {
  if (!existsSync(path)) return {}
  const parsed = deployedFile.safeParse(JSON.parse(readFileSync(path, 'utf8')))
  return parsed.success ? parsed.data : {}
}

export function findExamples(projectRoot: string): PeftFiles[] {
  const root = join(projectRoot, 'examples', 'adapters')
  if (!existsSync(root)) return []
  const folders = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return folders.map(({ name }) => findPeftFiles(join(root, name)))
}

function hashFiles({ configPath, weightsPath }: PeftFiles): string {
  const hash = createHash('sha256')
  for (const path of [configPath, weightsPath]) hash.update(readFileSync(path))
  return hash.digest('hex')
}

async function hasVersion(options: DemoOptions, model: string, digest: string): Promise<boolean> {
  const { operator, signal } = options
  const request = { method: 'GET', path: MODELS_PATH + toPath(model), signal } as const
  try {
    const { history } = await callEdge(operator, request, modelDetail)
    return history.some((entry) => entry.digest === digest)
  } catch (error) {
    if (error instanceof CliError && error.reason === 'not_found') return false
    throw error
  }
}
