/**
 * Neon's SQL-over-HTTP endpoint, in front of a PostgreSQL of ours: single statements and batches,
 * answered as Neon answers them, so that Neon's own client runs in tests, in Node and in workerd.
 */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { json } from 'node:stream/consumers'
import pg from 'pg'
import { z } from 'zod'
import { createPool } from '../../postgres.ts'

const statement = z.object({ query: z.string(), params: z.array(z.unknown()).default([]) })
const call = z.union([statement, z.object({ queries: z.array(statement).min(1) })])
type Statement = z.infer<typeof statement>

/** What the client always asks for: values as PostgreSQL's text, rows as arrays. */
const headers = z.object({
  'neon-connection-string': z.string().startsWith('postgres'),
  'neon-raw-text-output': z.literal('true'),
  'neon-array-mode': z.literal('true'),
  'neon-batch-isolation-level': z
    .enum(['ReadUncommitted', 'ReadCommitted', 'RepeatableRead', 'Serializable'])
    .default('ReadCommitted'),
  'neon-batch-read-only': z.enum(['true', 'false']).default('false'),
  'neon-batch-deferrable': z.enum(['true', 'false']).default('false'),
})

const RAW_TEXT = { getTypeParser: () => (text: unknown) => text }

export interface NeonEndpoint {
  readonly url: string
  /** Statements so far. */
  readonly count: () => number
  /** Requests that wait for `hold` to end. */
  readonly held: () => number
  /** Answers nothing until the function is called that this returns. */
  hold(): () => void
  close(): Promise<void>
}

/** Answers for the database at a PostgreSQL URL, whatever database the client names. */
export async function startNeonEndpoint(databaseUrl: string): Promise<NeonEndpoint> {
  const pool = createPool(databaseUrl)
  let statements = 0
  let held = 0
  let gate: PromiseWithResolvers<void> | null = null
  const run = async (client: pg.Pool | pg.PoolClient, { query, params }: Statement) => {
    statements += 1
    const options = { text: query, values: params, rowMode: 'array', types: RAW_TEXT } as const
    const { command, rowCount, rows, fields } = await client.query(options)
    const columns = fields.map(({ name, dataTypeID }) => ({ name, dataTypeID }))
    return { command, rowCount, rows, fields: columns, rowAsArray: true }
  }
  const runBatch = async (queries: readonly Statement[], wish: z.infer<typeof headers>) => {
    const client = await pool.connect()
    try {
      const level = wish['neon-batch-isolation-level'].replace(/(?!^)(?=[A-Z])/g, ' ')
      const access = wish['neon-batch-read-only'] === 'true' ? 'read only' : 'read write'
      const deferrable = wish['neon-batch-deferrable'] === 'true' ? 'deferrable' : 'not deferrable'
      await client.query(`begin isolation level ${level} ${access} ${deferrable}`)
      const results = []
      for (const query of queries) results.push(await run(client, query))
      await client.query('commit')
      return { results }
    } catch (error) {
      await client.query('rollback')
      throw error
    } finally {
      client.release()
    }
  }
  const answer = async (asked: IncomingHttpHeaders, body: unknown): Promise<object> => {
    const wish = headers.parse(asked)
    const wanted = call.parse(body)
    return 'queries' in wanted ? runBatch(wanted.queries, wish) : run(pool, wanted)
  }
  const server = createServer((request, response) => {
    const reply = (status: number, value: object) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    json(request)
      .then(async (body) => {
        held += 1
        await gate?.promise
        held -= 1
        return answer(request.headers, body)
      })
      .then((result) => reply(200, result))
      .catch((error: unknown) => {
        // What PostgreSQL says of an error, under the names that the client reads.
        const isAnswer = error instanceof pg.DatabaseError
        reply(400, { ...(isAnswer ? error : {}), message: String(error) })
      })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    url: `http://127.0.0.1:${port}/sql`,
    count: () => statements,
    held: () => held,
    hold() {
      const mine = Promise.withResolvers<void>()
      gate = mine
      return () => {
        gate = null
        mine.resolve()
      }
    },
    async close() {
      server.close()
      server.closeAllConnections()
      await pool.end()
    },
  }
}
