/**
 * Sends an adapter's files straight to the pool's store, in parts, a few at a time. Parts are named
 * by their hashes, so a run that was cut off goes on where it was when it is started again, and
 * nothing has to be remembered here.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type UploadFiles, type UploadPlan, uploadPlan } from '#protocol'
import { type ApiTarget, callEdge, EdgeRefusal, toPath } from './api-client.ts'
import { causeText } from './cause-text.ts'
import { CliError } from './cli-error.ts'
import { type DeployedVersion, deployedVersion } from './edge-replies.ts'
import { describeFile, readPart } from './file-parts.ts'
import type { PeftFiles } from './peft-directory.ts'
import type { Progress, StartProgress } from './upload-progress.ts'

export interface DirectUpload {
  readonly tenant: string
  readonly model: string
  /** How it is to serve, as a URL has it; may be empty. */
  readonly query: string
  readonly files: PeftFiles
  readonly progress: StartProgress
  readonly onSent?: (() => () => void) | undefined
  readonly signal: AbortSignal
}

type DirectPlan = Extract<UploadPlan, { mode: 'direct' }>
type PlannedPart = DirectPlan['parts'][number]

const AT_ONCE = 4
/** Plans that run out, and parts that the store has lost, are made good so often. */
const ROUNDS_MAX = 5
const ATTEMPTS_MAX = 6
const PAUSE_MS = 300
const PART_MS_MAX = 300_000

/**
 * null = this pool takes adapters through the edge alone. Rejects with the edge's reason when the
 * adapter is refused.
 */
export async function uploadDirectly(
  target: ApiTarget,
  upload: DirectUpload,
): Promise<DeployedVersion | null> {
  const { configPath, weightsPath } = upload.files
  const config = await open(configPath)
  const weights = await open(weightsPath)
  try {
    const files = { config: await describeFile(config), weights: await describeFile(weights) }
    return await sendUntilWhole(target, upload, files, { config, weights })
  } finally {
    await Promise.all([config.close(), weights.close()])
  }
}

async function sendUntilWhole(
  target: ApiTarget,
  upload: DirectUpload,
  files: UploadFiles,
  handles: Record<PlannedPart['file'], FileHandle>,
): Promise<DeployedVersion | null> {
  const { tenant, model, query, signal } = upload
  const path = toPath('v1', 'tenants', tenant, 'models', model, 'uploads')
  let resend = false
  for (let round = 1; ; round += 1) {
    const asked = { method: 'POST', path: path + query, json: { files, resend }, signal } as const
    const plan = await callEdge(target, asked, uploadPlan)
    if (plan.mode === 'through_edge') return null
    const hasArrived = await sendParts(plan, upload, files, handles)
    if (hasArrived) {
      const json = { files, digest: plan.digest }
      const done = { method: 'POST', path: `${path}/complete${query}`, json, signal } as const
      const endWait = upload.onSent?.()
      try {
        return await callEdge(target, done, deployedVersion)
      } catch (error) {
        const isIncomplete = error instanceof EdgeRefusal && error.code === 'upload_incomplete'
        if (!isIncomplete || round === ROUNDS_MAX) throw error
        resend = true
      } finally {
        endWait?.()
      }
    } else if (round === ROUNDS_MAX) {
      throw new CliError(
        'unavailable',
        'the store refuses the parts',
        'Try again: it goes on there.',
      )
    }
  }
}

/** false = the plan has run out before all parts had arrived. */
async function sendParts(
  plan: DirectPlan,
  { progress: start, signal }: DirectUpload,
  files: UploadFiles,
  handles: Record<PlannedPart['file'], FileHandle>,
): Promise<boolean> {
  if (plan.parts.length === 0) return true
  const progress = start(files.config.bytes + files.weights.bytes, plan.bytes_staged)
  const left = plan.parts.values()
  const stop = new AbortController()
  const signals = AbortSignal.any([signal, stop.signal])
  let hasRunOut = false
  const work = async (): Promise<void> => {
    for (const part of left) {
      if (hasRunOut) return
      const bytes = await readPart(handles[part.file], part.index)
      if (!(await sendPart(part, bytes, progress, signals))) hasRunOut = true
    }
  }
  try {
    await Promise.all(
      Array.from({ length: AT_ONCE }, () =>
        work().catch((error: unknown) => {
          stop.abort()
          throw error
        }),
      ),
    )
  } finally {
    progress.end()
  }
  return !hasRunOut
}

/** false = the store no longer takes it at this URL. */
async function sendPart(
  part: PlannedPart,
  bytes: Uint8Array<ArrayBuffer>,
  progress: Progress,
  signal: AbortSignal,
): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await putOnce(part, bytes, signal)
    if (outcome === 'stored') {
      progress.add(bytes.length)
      return true
    }
    if (outcome === 'refused') return false
    if (attempt === ATTEMPTS_MAX) {
      throw new CliError(
        'unavailable',
        `the store does not take the upload (${outcome})`,
        'Try again: what has arrived is not sent twice.',
      )
    }
    await sleep(Math.random() * PAUSE_MS * 2 ** attempt, undefined, { signal })
  }
}

/** `stored`, `refused` (a URL that has run out), or what went wrong and may not the next time. */
async function putOnce(
  { url, headers }: PlannedPart,
  body: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<'stored' | 'refused' | string> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(PART_MS_MAX)])
  try {
    const response = await fetch(url, { method: 'PUT', headers, body, signal: within })
    await response.body?.cancel()
    if (response.ok) return 'stored'
    if (response.status === 403) return 'refused'
    if (response.status !== 400) return `status ${response.status}`
  } catch (error) {
    if (signal.aborted) throw error
    return causeText(error)
  }
  throw new CliError(
    'refused',
    'the store has got other bytes than those of the file',
    'Did it change meanwhile? Deploy it again.',
  )
}
