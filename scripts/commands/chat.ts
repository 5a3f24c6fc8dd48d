/** `nozzle chat`: asks a model one question and shows the answer as it comes. */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { z } from 'zod'
import { type ApiTarget, sendToEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { locateDataDir, readRunning } from '../lib/data-dir.ts'
import {
  EDGE_FLAGS,
  type EdgeTarget,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'

const CHAT_PATH = '/v1/chat/completions'

const chatChunk = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }).optional() })),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
  error: z.object({ message: z.string() }).optional(),
})

export const chatCommand: Command = {
  name: 'chat',
  summary: 'ask a model; the answer streams to the terminal',
  positionals: ['<model>', '[prompt]'],
  flags: {
    system: { type: 'string', value: 'text', help: 'system message' },
    'max-tokens': { type: 'string', value: 'n', help: 'most tokens of the answer' },
    temperature: { type: 'string', value: '0…2', help: '0 = always the likeliest token' },
    seed: { type: 'string', value: 'n', help: 'makes sampling repeatable' },
    stream: { type: 'boolean', help: 'with --json: each chunk as it comes, one a line' },
    ...TENANT_FLAG,
    ...EDGE_FLAGS,
  },
  details:
    '<model> is a model of the tenant, <model>@<version>, <tenant>/<model>, or the base model.\n' +
    'Without a prompt, stdin is read. --json waits for the end and prints the whole reply; with\n' +
    '--stream it prints the chunks as the API sends them.\n' +
    'The demo key of the pool here is used unless a key is given.',
  examples: [
    "nozzle chat ticket-triage 'Triage this support ticket: the app crashes on start'",
    "echo 'Write the SQL query: all customers' | nozzle chat demo/text-to-sql --temperature 0",
  ],
  async run(call) {
    const [model = '', prompt] = call.positionals
    const target = locateEdge(call, 'demo')
    const request = toRequest(
      call,
      await qualify(call, target, model),
      prompt ?? (await readPrompt(call)),
    )
    if (call.output.isJson && !call.flags.isSet('stream')) {
      const reply = await sendToEdge(target, { ...request, signal: call.signal })
      call.output.data(await reply.json(), '')
      return
    }
    const json = { ...request.json, stream: true, stream_options: { include_usage: true } }
    await streamAnswer(call, target, json)
  },
}

/** The shared endpoint wants `<tenant>/<model>`, or the base model's own name. */
async function qualify(call: CommandCall, target: EdgeTarget, model: string): Promise<string> {
  const baseModel = readRunning(locateDataDir(call.env, call.projectRoot))?.base_model
  if (model.includes('/') || model === baseModel) return model
  // A tenant's own key says by itself which tenant is meant.
  if (target.keySource !== 'operator' && target.tenant === null) return model
  return `${await resolveTenant(call, target)}/${model}`
}

async function readPrompt({ readStdin }: CommandCall): Promise<string> {
  const text = readStdin ? (await readStdin()).trim() : ''
  if (text) return text
  throw new CliError('usage', 'no prompt: give it as the second argument or on stdin')
}

function toRequest({ flags }: CommandCall, model: string, prompt: string) {
  const system = flags.text('system')
  const messages = [{ role: 'user', content: prompt }]
  if (system !== undefined) messages.unshift({ role: 'system', content: system })
  const json = {
    model,
    messages,
    max_tokens: flags.integer('max-tokens', 1, 1_000_000),
    temperature: flags.number('temperature', 0, 2),
    seed: flags.integer('seed', 0, 0xffff_ffff),
  }
  return { method: 'POST', path: CHAT_PATH, json } as const
}

async function streamAnswer(call: CommandCall, target: ApiTarget, json: object): Promise<void> {
  const { output, signal } = call
  const reply = await sendToEdge(target, { method: 'POST', path: CHAT_PATH, json, signal })
  if (!reply.body) throw new CliError('unexpected', 'the reply has no body')
  const events = reply.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
  let isDone = false
  for await (const { data } of events) {
    if (data === '[DONE]') {
      isDone = true
      break
    }
    const value: unknown = JSON.parse(data)
    const chunk = chatChunk.partial({ choices: true }).parse(value)
    if (chunk.error) throw new CliError('unavailable', chunk.error.message)
    if (output.isJson) output.data(value, '')
    output.piece(chunk.choices?.[0]?.delta?.content ?? '')
    if (chunk.usage && !output.isJson) {
      const { prompt_tokens, completion_tokens } = chunk.usage
      output.note(`\n${prompt_tokens} prompt and ${completion_tokens} completion tokens`)
    }
  }
  output.piece('\n')
  if (!isDone) throw new CliError('unavailable', 'the stream ended before the answer did')
}
