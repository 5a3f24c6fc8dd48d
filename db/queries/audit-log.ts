/** The audit log: appended to by whoever changes something, read by the tenant it concerns. */
import { desc, eq } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { type AuditEntry, auditLog } from '../schema/audit-log.ts'

export type { AuditEntry }

export interface NewAuditEntry {
  /** null = the pool's own business. */
  readonly tenantId: string | null
  readonly actor: string
  readonly action: string
  readonly subject: string
  /** Never a secret. */
  readonly detail?: Readonly<Record<string, unknown>>
}

export async function recordAuditEntry(db: Db, entry: NewAuditEntry): Promise<void> {
  await db.insert(auditLog).values({ id: createId('aud'), detail: {}, ...entry })
}

/** Newest first. */
export async function listAuditEntries(
  db: Db,
  filter: { tenantId: string; limit: number },
): Promise<AuditEntry[]> {
  return db
    .select()
    .from(auditLog)
    .where(eq(auditLog.tenantId, filter.tenantId))
    .orderBy(desc(auditLog.createdAt), desc(auditLog.id))
    .limit(filter.limit)
}
