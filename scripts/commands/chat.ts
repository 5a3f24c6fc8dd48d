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
import type { Ask } from '../lib/terminal-question.ts'

const CHAT_PATH = '/v1/chat/completions'

const chatChunk = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }).optional() })),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
  error: z.object({ message: z.string() }).optional(),
})

export const chatCommand: Command = {
  name: 'chat',
  summary: 'ask a model, or talk with it; answers stream to the terminal',
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
    'Without a prompt, stdin is read; at a terminal, and without --json, it is a conversation then: a\n' +
    'line a question, each with all that was said before, until an empty line or Ctrl-D. --json\n' +
    'waits for the end and prints the whole reply; with --stream it prints the chunks as the API\n' +
    'sends them.\n' +
    'The demo key of the pool here is used unless a key is given.',
  examples: [
    'nozzle chat demo/text-to-sql',
    "nozzle chat ticket-triage 'Triage this support ticket: the app crashes on start'",
    "echo 'Write the SQL query: all customers' | nozzle chat demo/text-to-sql --temperature 0",
  ],
  async run(call) {
    const [name = '', prompt] = call.positionals
    const target = locateEdge(call, 'demo')
    const model = await qualify(call, target, name)
    if (prompt === undefined && call.ask !== null && !call.output.isJson) {
      await converse(call, call.ask, target, model)
      return
    }
    const request = toRequest(call, model, [toUser(prompt ?? (await readPrompt(call)))])
    if (call.output.isJson && !call.flags.isSet('stream')) {
      const reply = await sendToEdge(target, { ...request, signal: call.signal })
      call.output.data(await reply.json(), '')
      return
    }
    await streamAnswer(call, target, request.json)
  },
}

interface Message {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

const toUser = (content: string): Message => ({ role: 'user', content })

async function converse(
  call: CommandCall,
  ask: Ask,
  target: EdgeTarget,
  model: string,
): Promise<void> {
  const said: Message[] = []
  call.output.note(`${model}: a line a question; an empty line, Ctrl-D or Ctrl-C ends it`)
  for (;;) {
    const question = await ask({ text: '> ' }, call.signal)
    if (question === '') return
    said.push(toUser(question))
    const answer = await streamAnswer(call, target, toRequest(call, model, said).json)
    said.push({ role: 'assistant', content: answer })
  }
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

function toRequest({ flags }: CommandCall, model: string, said: readonly Message[]) {
  const system = flags.text('system')
  const messages: readonly Message[] =
    system === undefined ? said : [{ role: 'system', content: system }, ...said]
  const json = {
    model,
    messages,
    max_tokens: flags.integer('max-tokens', 1, 1_000_000),
    temperature: flags.number('temperature', 0, 2),
    seed: flags.integer('seed', 0, 0xffff_ffff),
  }
  return { method: 'POST', path: CHAT_PATH, json } as const
}

/** Resolves to the answer's text. */
async function streamAnswer(call: CommandCall, target: ApiTarget, asked: object): Promise<string> {
  const { output, signal } = call
  const json = { ...asked, stream: true, stream_options: { include_usage: true } }
  const reply = await sendToEdge(target, { method: 'POST', path: CHAT_PATH, json, signal })
  if (!reply.body) throw new CliError('unexpected', 'the reply has no body')
  const events = reply.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
  let isDone = false
  let answer = ''
  for await (const { data } of events) {
    if (data === '[DONE]') {
      isDone = true
      break
    }
    const value: unknown = JSON.parse(data)
    const chunk = chatChunk.partial({ choices: true }).parse(value)
    if (chunk.error) throw new CliError('unavailable', chunk.error.message)
    if (output.isJson) output.data(value, '')
    const text = chunk.choices?.[0]?.delta?.content ?? ''
    answer += text
    output.piece(text)
    if (chunk.usage && !output.isJson) {
      const { prompt_tokens, completion_tokens } = chunk.usage
      output.note(`\n${prompt_tokens} prompt and ${completion_tokens} completion tokens`)
    }
  }
  output.piece('\n')
  if (!isDone) throw new CliError('unavailable', 'the stream ended before the answer did')
  return answer
}
