/** A first request to a model's endpoint, to copy: with curl and with OpenAI's SDKs. Pure. */

export interface Snippet {
  readonly label: string
  readonly text: string
}

const PROMPT = 'Hello!'

/** The key is named, not shown: it is read from NOZZLE_API_KEY. */
export function snippetsFor({
  endpoint,
  name,
}: {
  readonly endpoint: string
  readonly name: string
}): Snippet[] {
  return [
    { label: 'curl', text: curl(endpoint, name) },
    { label: 'Python (openai)', text: python(endpoint, name) },
    { label: 'Node (openai)', text: node(endpoint, name) },
  ]
}

function curl(endpoint: string, name: string): string {
  const body = JSON.stringify({ model: name, messages: [{ role: 'user', content: PROMPT }] })
  return `curl ${endpoint}/chat/completions \\
  -H "Authorization: Bearer $NOZZLE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${body}'`
}

function python(endpoint: string, name: string): string {
  return `import os
from openai import OpenAI

client = OpenAI(base_url="${endpoint}", api_key=os.environ["NOZZLE_API_KEY"])
stream = client.chat.completions.create(
    model="${name}",
    messages=[{"role": "user", "content": "${PROMPT}"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)`
}

function node(endpoint: string, name: string): string {
  return `import OpenAI from 'openai'

const client = new OpenAI({
  baseURL: '${endpoint}',
  apiKey: process.env.NOZZLE_API_KEY,
})
const stream = await client.chat.completions.create({
  model: '${name}',
  messages: [{ role: 'user', content: '${PROMPT}' }],
  stream: true,
})
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? '')
}`
}
