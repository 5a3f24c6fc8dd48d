/** Settings of `npm run db:generate`: schema/ → the next numbered file in migrations/. */
import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'postgresql',
  schema: './db/schema/index.ts',
  out: './db/migrations',
})
