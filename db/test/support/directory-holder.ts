/**
 * A process of its own that opens the database in argv[2] and creates the tenant in argv[3], says
 * `ready`, and then holds the database until it is killed. Says `refused <code>` when it may not.
 */
import { setInterval } from 'node:timers'
import { openDatabase } from '../../client.ts'
import { DatabaseError } from '../../errors.ts'
import { createTenant } from '../../queries/tenants.ts'

const [, , directory = '', name = ''] = process.argv

try {
  const { db, migrate } = await openDatabase(`pglite:${directory}`)
  await migrate()
  await createTenant(db, { name })
  process.send?.('ready')
  setInterval(() => {}, 60_000)
} catch (error) {
  if (!(error instanceof DatabaseError)) throw error
  process.send?.(`refused ${error.code}`)
}
