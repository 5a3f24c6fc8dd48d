/**
 * Sends the playground's form and shows the answers as they stream, one beside the other when two
 * versions are asked.
 */
const form = document.getElementById('playground')
const answers = document.getElementById('answers')
const stopButton = document.getElementById('stop')
let leaving = null

form?.addEventListener('submit', async (event) => {
  event.preventDefault()
  leaving?.abort()
  leaving = new AbortController()
  const { signal } = leaving
  const fields = Object.fromEntries(new FormData(form))
  const versions = [fields.version, ...(fields.compare === '' ? [] : [fields.compare])]
  answers.replaceChildren()
  stopButton.hidden = false
  await Promise.all(
    versions.map((version) => ask(fields, version, addAnswer(fields, version), signal)),
  )
  if (!signal.aborted) stopButton.hidden = true
})

stopButton?.addEventListener('click', () => {
  leaving?.abort()
  stopButton.hidden = true
})

function addAnswer({ model }, version) {
  const section = document.createElement('section')
  section.className = 'card'
  const head = document.createElement('h2')
  head.textContent = version === '' ? model : `${model}@${version}`
  const text = document.createElement('div')
  text.className = 'text'
  text.setAttribute('aria-live', 'polite')
  text.setAttribute('aria-busy', 'true')
  const note = document.createElement('p')
  note.className = 'help'
  section.append(head, text, note)
  answers.append(section)
  return { text, note }
}

async function ask(fields, version, { text, note }, signal) {
  const startMs = performance.now()
  let firstMs = null
  let usage = null
  try {
    const response = await fetch(`${form.dataset.chat}/${encodeURIComponent(fields.model)}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(toBody(fields, version)),
      signal,
    })
    // Redirected: to the sign-in.
    if (!response.ok || response.redirected || response.body === null)
      throw new Error(await faultOf(response))
    for await (const chunk of readEvents(response.body)) {
      if (chunk.error) throw new Error(chunk.error.message)
      usage = chunk.usage ?? usage
      const piece = chunk.choices[0]?.delta?.content ?? ''
      if (piece !== '') firstMs ??= performance.now() - startMs
      text.append(piece)
    }
    note.textContent = toNote(usage, firstMs, performance.now() - startMs)
  } catch (error) {
    note.className = signal.aborted ? 'help' : 'fault'
    note.textContent = signal.aborted ? 'Stopped.' : error.message
  }
  text.setAttribute('aria-busy', 'false')
}

function toBody({ model, system, prompt, max_tokens, temperature }, version) {
  const messages = [{ role: 'user', content: prompt }]
  if (system !== '') messages.unshift({ role: 'system', content: system })
  return {
    model: version === '' ? model : `${model}@${version}`,
    messages,
    ...(max_tokens !== '' && { max_tokens: Number(max_tokens) }),
    ...(temperature !== '' && { temperature: Number(temperature) }),
    stream: true,
    stream_options: { include_usage: true },
  }
}

function toNote(usage, firstMs, wholeMs) {
  const tokens =
    usage === null ? '' : `${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out. `
  const first = firstMs === null ? '' : `First text after ${Math.round(firstMs)} ms, `
  return `${tokens}${first}all after ${Math.round(wholeMs)} ms, as this browser saw it.`
}

/** A reply that is no stream says why; one that is no JSON is the sign-in page. */
async function faultOf(response) {
  const body = await response.json().catch(() => null)
  return body?.error?.message ?? 'The session is over: sign in again.'
}

/** The data of each event, up to `[DONE]`. */
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const events = (rest + value).split('\n\n')
    rest = events.pop()
    for (const event of events) {
      const data = event
        .split('\n')
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice('data:'.length).trim())
        .join('\n')
      if (data === '[DONE]') return
      if (data !== '') yield JSON.parse(data)
    }
  }
}
