/** `nozzle store`: whether a store is fit for packs, and moving them to another. */
import { z } from 'zod'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { DRY_RUN_FLAG } from '../lib/edge-target.ts'
import { runHostTool } from '../lib/host-tool.ts'
import { formatBytes } from '../lib/output.ts'

const failureLine = z.object({ failure: z.string() })
const checkedDirectory = z.object({ directory: z.string() })
const checkedBucket = z.object({
  bucket: z.string(),
  prefix: z.string(),
  endpoint: z.string(),
  checks: z.array(
    z.object({
      name: z.string(),
      ok: z.boolean(),
      reason: z.string().nullable(),
      needed: z.boolean(),
    }),
  ),
})
type BucketCheck = z.infer<typeof checkedBucket>
const copiedPack = z.object({
  digest: z.string(),
  outcome: z.enum(['copied', 'present', 'damaged']),
  bytes: z.int(),
})

const VARIABLES =
  'A bucket is reached with NOZZLE_STORE_ENDPOINT, NOZZLE_STORE_REGION, NOZZLE_STORE_ACCESS_KEY_ID\n' +
  'and NOZZLE_STORE_SECRET_ACCESS_KEY; gpu-host/README.md has them all.'

const check: Command = {
  name: 'store check',
  summary: 'try out what the pool needs of its bucket',
  positionals: [],
  flags: {},
  details:
    'Of the bucket that NOZZLE_STORE names. Puts, reads, lists and removes objects under names of\n' +
    `their own, which the pool does not use. ${VARIABLES}`,
  examples: ['NOZZLE_STORE=s3://packs/pool nozzle store check'],
  async run(call) {
    const { stdout, stderr } = await runHostTool(call, 'adapters/store-check.ts', [])
    const reply = parseLine(z.union([checkedBucket, checkedDirectory, failureLine]), stdout, stderr)
    if ('failure' in reply) throw new CliError('refused', reply.failure)
    if ('directory' in reply) {
      call.output.data(reply, `the store is the directory ${reply.directory}: nothing to try out`)
      return
    }
    call.output.data(reply, formatBucket(reply))
    const failed = reply.checks.filter(({ ok, needed }) => !ok && needed)
    if (failed.length > 0) throw new CliError('refused', `the pool needs more: ${failed.length}`)
  },
}

const copy: Command = {
  name: 'store copy',
  summary: 'copy all packs to another store, proven',
  positionals: ['<from>', '<to>'],
  flags: DRY_RUN_FLAG,
  details:
    'Each is a directory or s3://<bucket>[/<prefix>]. What is there already is left alone: copy while\n' +
    `the pool serves, point the hosts to the new store, and copy once more. ${VARIABLES}`,
  examples: [
    'nozzle store copy .nozzle/store s3://packs/pool',
    'nozzle store copy .nozzle/store s3://packs/pool --dry-run',
  ],
  async run(call) {
    const [from = '', to = ''] = call.positionals
    const addresses = [toAddress(call, from), toAddress(call, to)]
    const counts = { copied: 0, present: 0, damaged: [] as string[], bytes: 0 }
    const count = (line: string): void => {
      const pack = copiedPack.safeParse(JSON.parse(line)).data
      if (pack === undefined) return
      if (pack.outcome === 'damaged') counts.damaged.push(pack.digest)
      else counts[pack.outcome] += 1
      if (pack.outcome === 'copied') counts.bytes += pack.bytes
      const done = counts.copied + counts.present + counts.damaged.length
      call.output.redraw?.(`  ${done} packs, ${formatBytes(counts.bytes)} copied`)
    }
    const isDryRun = call.flags.isSet('dry-run')
    const args = isDryRun ? [...addresses, 'dry-run'] : addresses
    const { stdout, stderr } = await runHostTool(call, 'adapters/store-copy.ts', args, count)
    call.output.redraw?.('')
    const last = stdout.split('\n').at(-1) ?? ''
    if (stderr !== '') throw new CliError('unexpected', `the copy failed:\n${stderr}`)
    const failure = last === '' ? undefined : failureLine.safeParse(JSON.parse(last)).data
    if (failure)
      throw new CliError('unavailable', failure.failure, 'Run it again: it goes on there.')
    const { copied, present, damaged, bytes } = counts
    const text = `${isDryRun ? 'would copy' : 'copied'} ${copied} (${formatBytes(bytes)}), ${present} were there`
    const counted = { from, to, copied, present, damaged, bytes }
    call.output.data({ ...(isDryRun && { dry_run: true }), ...counted }, text)
    if (damaged.length === 0) return
    throw new CliError(
      'refused',
      `packs that are damaged, and were not copied: ${damaged.join(', ')}`,
      'Deploy their adapters again.',
    )
  },
}

function toAddress(call: CommandCall, text: string): string {
  return text.startsWith('s3://') ? text : callerPath(call, text)
}

function formatBucket({ bucket, prefix, endpoint, checks }: BucketCheck): string {
  const lines = checks.map(({ name, ok, reason, needed }) => {
    if (ok) return `  ok      ${name}`
    return `  ${needed ? 'FAILED' : 'not so'}  ${name}: ${reason}`
  })
  return [`s3://${bucket}/${prefix} at ${endpoint}`, ...lines].join('\n')
}

function parseLine<T>(schema: z.ZodType<T>, stdout: string, stderr: string): T {
  try {
    return schema.parse(JSON.parse(stdout))
  } catch {
    throw new CliError('unexpected', `the check failed:\n${stderr || stdout}`)
  }
}

export const storeCommands: readonly Command[] = [check, copy]
