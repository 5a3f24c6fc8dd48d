/** Migrations from the CLI, for edges that cannot apply them or should not have to. */
import { openDatabase } from '#db'
import { CliError } from '../lib/cli-error.ts'

/** Throws `usage` or `unavailable`; the message never holds the URL. */
export async function migrateDatabase(url: string): Promise<void> {
  let database: Awaited<ReturnType<typeof openDatabase>> | null = null
  try {
    database = await openDatabase(url)
    await database.migrate()
  } catch (error) {
    const isUrl = error instanceof Error && 'code' in error && error.code === 'database_url_invalid'
    const text = error instanceof Error ? error.message || error.name : String(error)
    const message = `the migrations were not applied: ${text.replaceAll(url, '<url>')}`
    throw new CliError(isUrl ? 'usage' : 'unavailable', message, 'Correct it and run it again.')
  } finally {
    await database?.close()
  }
}
