/** `nozzle logs`: a tenant's requests, or what edge and hosts of the pool here write. */
import { z } from 'zod'
import { formatUsd } from '#db/money.ts'
import { EDGE_ROUTES } from '#protocol'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import type { UsageEventRow } from '../lib/edge-replies.ts'
import { EDGE_FLAGS, locateEdge, resolveTenant, TENANT_FLAG } from '../lib/edge-target.ts'
import { toPrintable } from '../lib/printable.ts'
import { followLogs, type LogLine, listLogs, readLastLines } from '../logs/log-tail.ts'
import { readRequests } from '../logs/request-feed.ts'

const LAST_DEFAULT = 20
const LAST_MAX = 10_000

const heartbeatTaken = z.looseObject({
  path: z.literal(EDGE_ROUTES.heartbeat),
  status: z.literal(200),
})

const logRecord = z.looseObject({ at: z.string(), level: z.string(), message: z.string() })

export const logsCommand: Command = {
  name: 'logs',
  summary: "a tenant's requests as they come, or the logs of the pool here",
  positionals: [],
  flags: {
    follow: { type: 'boolean', short: 'f', help: 'go on with what comes, until Ctrl-C' },
    last: {
      type: 'string',
      short: 'n',
      value: 'n',
      help: `how many of those before (default ${LAST_DEFAULT})`,
    },
    model: { type: 'string', value: 'name', help: 'requests to this model alone' },
    pool: { type: 'boolean', help: 'what edge and hosts of the pool here write, instead' },
    all: { type: 'boolean', help: 'with --pool: heartbeats that were taken, too' },
    of: { type: 'string', value: 'name', help: 'with --pool: edge, host, host-2 … alone' },
    ...TENANT_FLAG,
    ...EDGE_FLAGS,
  },
  details:
    'A request is listed once it has ended and its host has reported it, some seconds later: when,\n' +
    'id, model, how it ended, prompt+completion tokens (cached ones in brackets), time to the first\n' +
    'token, time in all, cost. One that is charged by a later attempt comes again as superseded.\n' +
    'Prompts are kept nowhere, and answers for a day alone where a request had an Idempotency-Key:\n' +
    'none is shown.\n' +
    '--pool reads the log files in the data directory, on the machine where `nozzle up` runs.\n' +
    'With --json each is a JSON document on a line of its own.',
  examples: [
    'nozzle logs -f',
    'nozzle logs --model ticket-triage -n 100',
    'nozzle logs -f --json | jq \'select(.finish_reason != "stop")\'',
    'nozzle logs --pool -f',
    'nozzle logs --pool --of host -n 200',
  ],
  async run(call) {
    const { flags } = call
    const last = flags.integer('last', 0, LAST_MAX) ?? LAST_DEFAULT
    const isPool = flags.isSet('pool')
    const stray = flags.isSet('all') ? 'all' : flags.text('of') !== undefined ? 'of' : null
    if (!isPool && stray !== null) {
      throw new CliError('usage', `--${stray} goes with --pool`, 'Add it, or leave this out.')
    }
    if (isPool && flags.text('model') !== undefined) {
      throw new CliError('usage', '--model goes without --pool', 'Leave one of them out.')
    }
    await (isPool ? showPool(call, last) : showRequests(call, last))
  },
}

async function showRequests(call: CommandCall, last: number): Promise<void> {
  const { flags, output, signal } = call
  const target = locateEdge(call)
  const tenant = await resolveTenant(call, target)
  const model = flags.text('model')
  const isWanted = (event: UsageEventRow): boolean => model === undefined || event.model === model
  const isFollowed = flags.isSet('follow')
  const wish = { tenant, last, isFollowed, isWanted, note: output.note, signal }
  for await (const event of readRequests(target, wish)) output.data(event, formatRequest(event))
}

/** Ends well on Ctrl-C: there is no other end. */
async function showPool(call: CommandCall, last: number): Promise<void> {
  const { env, flags, output, projectRoot, signal } = call
  const { logs } = locateDataDir(env, projectRoot)
  const of = flags.text('of')
  const known = listLogs(logs)
  if (known.length === 0) {
    const fix = 'Run this where `nozzle up` runs; set NOZZLE_DATA_DIR to its data directory.'
    throw new CliError('not_found', `there are no logs in ${logs}`, fix)
  }
  if (of !== undefined && !known.includes(of)) {
    throw new CliError('not_found', `there is no log of "${of}"`, `One of ${known.join(', ')}.`)
  }
  const sources = of === undefined ? known : [of]
  const isShown = (line: LogLine): boolean => flags.isSet('all') || !isHeartbeat(line)
  const show = (line: LogLine): void => output.data(toJson(line), formatLine(line))
  for (const line of readLastLines(logs, sources, last, isShown)) show(line)
  if (!flags.isSet('follow')) return
  const isWanted = (source: string): boolean => of === undefined || source === of
  for await (const line of followLogs(logs, isWanted, signal)) {
    if (isShown(line)) show(line)
  }
}

/** One a second from every host: what is not that would be lost among them. */
function isHeartbeat({ text }: LogLine): boolean {
  return heartbeatTaken.safeParse(parseRecord(text)).success
}

export function formatRequest(event: UsageEventRow): string {
  const { prompt_tokens, cached_prompt_tokens: cached, completion_tokens } = event
  const tokens = `${prompt_tokens}${cached > 0 ? `(${cached})` : ''}+${completion_tokens}`
  const totalMs = Date.parse(event.ended_at) - Date.parse(event.started_at)
  const first = event.ttft_us === null ? '-' : `${Math.round(event.ttft_us / 1000)} ms`
  const end = event.superseded ? `${event.finish_reason}, superseded` : event.finish_reason
  return [
    event.ended_at,
    event.request_id,
    event.model,
    end,
    `${tokens} tok`,
    `first ${first}`,
    `all ${totalMs} ms`,
    `${formatUsd(BigInt(event.cost_pusd))} USD`,
  ].join('  ')
}

function toJson({ source, text }: LogLine): unknown {
  const record = parseRecord(text)
  return record === null ? { source, text } : { source, ...record }
}

/** A line that is no record, of a stack trace say, as it is. */
function formatLine({ source, text }: LogLine): string {
  const record = parseRecord(text)
  if (record === null) return toPrintable(`${source}  ${text}`)
  const { at, level, message, ...fields } = record
  const pairs = Object.entries(fields).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return toPrintable([at, source.padEnd(6), level.padEnd(5), message, ...pairs].join('  '))
}

function parseRecord(text: string): z.infer<typeof logRecord> | null {
  try {
    return logRecord.parse(JSON.parse(text))
  } catch {
    return null
  }
}
