/**
 * Neon's SQL-over-HTTP endpoint, answered by a PostgreSQL of ours: what the real one does with one
 * statement, so that Neon's own client runs in tests. A batch is refused; db never sends one.
 */
import { neonConfig } from '@neondatabase/serverless'
import pg from 'pg'
import { z } from 'zod'
import { createPool } from '../../postgres.ts'

const statement = z.object({ query: z.string(), params: z.array(z.unknown()) })
const request = z.object({ body: z.string() })

/** Values stay the text that PostgreSQL sent, as `Neon-Raw-Text-Output` asks. */
const RAW_TEXT = { getTypeParser: () => (text: unknown) => text }

/** Answers every Neon client of this process until the returned function is called. */
export function serveNeonFrom(url: string): () => Promise<void> {
  const pool = createPool(url)
  neonConfig.disableWarningInBrowsers = true
  neonConfig.fetchFunction = async (_endpoint: string, init: unknown) => {
    const { query, params } = statement.parse(JSON.parse(request.parse(init).body))
    try {
      const result = await pool.query({
        text: query,
        values: params,
        rowMode: 'array',
        types: RAW_TEXT,
      })
      const fields = result.fields.map(({ name, dataTypeID }) => ({ name, dataTypeID }))
      const { command, rowCount, rows } = result
      return Response.json({ command, rowCount, rows, fields, rowAsArray: true })
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error
      return Response.json({ ...error, message: error.message }, { status: 400 })
    }
  }
  return async () => {
    neonConfig.fetchFunction = undefined
    await pool.end()
  }
}
