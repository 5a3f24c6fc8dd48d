/**
 * `nozzle check`: would the pool take this adapter? Runs the host's own checks in a process of
 * their own (gpu-host/adapters/check.ts), so it needs no pool and no network.
 */
import { z } from 'zod'
import { adapterReceipt, hostErrorBody } from '#protocol'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { runHostTool } from '../lib/host-tool.ts'
import { otherBaseNote } from '../lib/named-base.ts'
import { formatBytes } from '../lib/output.ts'
import { findPeftFiles, type PeftFiles } from '../lib/peft-directory.ts'
import { type Progress, progressOn, type StartProgress } from '../lib/upload-progress.ts'
import { ensureBaseModel } from '../setup/base-model.ts'
import { prepareNative } from '../setup/prepare.ts'

/** The host's own default, see gpu-host/config.ts. */
const RANK_MAX_DEFAULT = '32'

/** What the check prints: the receipt that a deploy would give, or the refusal. */
const checkReply = z.union([adapterReceipt.omit({ existed: true }), hostErrorBody])
export type CheckReceipt = Exclude<z.infer<typeof checkReply>, { error: unknown }>

export const checkCommand: Command = {
  name: 'check',
  summary: 'check a PEFT adapter here, without a pool',
  positionals: ['<peft-dir>'],
  flags: {},
  details:
    'Says whether the adapter fits the base model (NOZZLE_BASE_MODEL, or the default one, which\n' +
    'is fetched when it is missing), and if not, which field of which file is at fault.',
  examples: ['nozzle check ./my-adapter', 'nozzle check ./my-adapter --json'],
  async run(call) {
    const [directory = ''] = call.positionals
    const receipt = await checkAdapter(call, findPeftFiles(callerPath(call, directory)))
    call.output.data(receipt, formatCheck(receipt))
  },
}

/** Throws `refused` with the field at fault. */
export async function checkAdapter(call: CommandCall, files: PeftFiles): Promise<CheckReceipt> {
  const { models } = locateDataDir(call.env, call.projectRoot)
  await prepareNative(call.output.note)
  const { output } = call
  const progress = progressOn(output)
  const source = call.env.NOZZLE_BASE_MODEL
  const base = await ensureBaseModel(source, models, output.note, progress)
  const foreign = otherBaseNote(files.configPath, base.name)
  if (foreign !== null) output.note(foreign)
  const rankMax = call.env.NOZZLE_RANK_MAX || RANK_MAX_DEFAULT
  const args = [files.directory, base.path, base.name, rankMax]
  const conversion = new Conversion(progress)
  const run = await runHostTool(call, 'adapters/check.ts', args, (line) => conversion.hear(line))
  conversion.end()
  const { stdout, stderr } = run
  const parsed = checkReply.safeParse(parseJson(stdout.split('\n').at(-1) ?? ''))
  if (!parsed.success) throw new CliError('unexpected', `the check failed:\n${stderr || stdout}`)
  if (!('error' in parsed.data)) return parsed.data
  const { message, param } = parsed.data.error
  throw new CliError('refused', message, param ? `Correct ${param}.` : null)
}

const conversionLine = z.object({ bytes_done: z.int(), bytes_total: z.int() })

/** What the check says while it converts, as a bar. */
class Conversion {
  readonly #start: StartProgress
  #progress: Progress | null = null
  #bytesDone = 0

  constructor(start: StartProgress) {
    this.#start = start
  }

  hear(line: string): void {
    const { data } = conversionLine.safeParse(parseJson(line))
    if (data === undefined) return
    this.#progress ??= this.#start(data.bytes_total)
    this.#progress.add(data.bytes_done - this.#bytesDone)
    this.#bytesDone = data.bytes_done
  }

  end(): void {
    this.#progress?.end()
  }
}

export function formatCheck(receipt: CheckReceipt): string {
  return [
    'ok        the pool would take this adapter',
    `base      ${receipt.base_model}`,
    `digest    ${receipt.digest}`,
    `rank      ${receipt.rank}, alpha ${receipt.alpha}${receipt.use_rslora ? ', rsLoRA' : ''}`,
    `targets   ${receipt.target_modules.join(' ')} (${receipt.tensors} tensors)`,
    `size      ${formatBytes(receipt.pack_bytes)} in a slot`,
  ].join('\n')
}

function parseJson(source: string): unknown {
  try {
    return JSON.parse(source)
  } catch {
    return null
  }
}
