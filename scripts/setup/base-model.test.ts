/** A base model by URL, from a real server: what is shown on the way, and what is kept. */
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ensureBaseModel } from './base-model.ts'

const BYTES = Buffer.alloc(300_000, 7)
let models = ''
let server: Server
beforeEach(async () => {
  models = mkdtempSync(join(tmpdir(), 'nozzle-models-'))
  server = createServer((request, response) => {
    const isSized = request.url === '/sized.gguf'
    response.writeHead(200, isSized ? { 'content-length': BYTES.length } : {})
    for (let at = 0; at < BYTES.length; at += 100_000) {
      response.write(BYTES.subarray(at, at + 100_000))
    }
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
})
afterEach(() => {
  server.close()
  server.closeAllConnections()
  rmSync(models, { recursive: true, force: true })
})

function fetchModel(path: string) {
  const seen = { totals: [] as number[], bytes: 0, ends: 0, notes: [] as string[] }
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}${path}`
  const note = (text: string): void => void seen.notes.push(text)
  const file = ensureBaseModel(url, models, note, (bytesTotal) => {
    seen.totals.push(bytesTotal)
    return { add: (bytes) => (seen.bytes += bytes), end: () => (seen.ends += 1) }
  })
  return { file, seen }
}

describe('ensureBaseModel', () => {
  it('shows how far a download is, to the last byte, and fetches it once', async () => {
    const { file, seen } = fetchModel('/sized.gguf')
    const { path, name } = await file
    expect(name).toBe('sized')
    expect(readFileSync(path).equals(BYTES)).toBe(true)
    expect(seen).toMatchObject({ totals: [BYTES.length], bytes: BYTES.length, ends: 1 })
    const again = fetchModel('/sized.gguf')
    await again.file
    expect(again.seen).toEqual({ totals: [], bytes: 0, ends: 0, notes: [] })
  })

  it('shows no share of a whole that the server does not name', async () => {
    const { file, seen } = fetchModel('/unsized.gguf')
    await file
    expect(seen).toMatchObject({ totals: [], bytes: 0 })
    expect(seen.notes.join()).toContain('of unknown size')
  })

  it('leaves the line clean, and keeps nothing, when the digest is another', async () => {
    const { file, seen } = fetchModel(`/sized.gguf#sha256=${'0'.repeat(64)}`)
    await expect(file).rejects.toMatchObject({ reason: 'refused' })
    expect(seen.ends).toBe(1)
    expect(existsSync(join(models, 'sized.gguf'))).toBe(false)
  })
})
