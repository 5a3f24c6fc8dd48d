/**
 * Neon's SQL-over-HTTP protocol in front of PGlite, so that Neon's own driver runs in workerd
 * without Neon: one statement per POST, values as the text that PostgreSQL sends.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import { PGlite } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'
import { z } from 'zod'

const statement = z.object({ query: z.string(), params: z.array(z.unknown()) })

export interface NeonEndpoint {
  readonly url: string
  /** Statements so far. */
  readonly count: () => number
  close(): Promise<void>
}

/** With the real migrations applied. */
export async function startNeonEndpoint(): Promise<NeonEndpoint> {
  const client = await PGlite.create()
  const migrationsFolder = new URL('../../../db/migrations', import.meta.url).pathname
  await migrate(drizzle({ client }), { migrationsFolder })
  const { rows: types } = await client.query<{ oid: number }>('select oid from pg_type')
  const forEveryType = <T>(handle: T): Record<number, T> =>
    Object.fromEntries(types.map(({ oid }) => [oid, handle]))
  const parsers = forEveryType((text: string) => text)
  // The driver has turned arrays and dates into text; numbers and booleans come as they are.
  const serializers = forEveryType((value: unknown) => String(value))
  let statements = 0
  const answer = async (body: unknown): Promise<{ status: number; reply: object }> => {
    const { query, params } = statement.parse(body)
    statements += 1
    try {
      const result = await client.query(query, params, {
        rowMode: 'array',
        parsers,
        serializers,
      })
      const { fields, rows } = result
      const rowCount = result.affectedRows ?? rows.length
      return { status: 200, reply: { fields, rows, rowCount, command: 'SELECT', rowAsArray: true } }
    } catch (error) {
      return { status: 400, reply: { message: String(error) } }
    }
  }
  const server = createServer((request, response) => {
    void json(request)
      .then(answer)
      .then(({ status, reply }) => {
        response.writeHead(status, { 'content-type': 'application/json' })
        response.end(JSON.stringify(reply))
      })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    url: `http://127.0.0.1:${port}/sql`,
    count: () => statements,
    async close() {
      server.close()
      server.closeAllConnections()
      await client.close()
    },
  }
}
