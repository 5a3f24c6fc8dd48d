/**
 * Who this journal is, in one file beside the segments: its id, drawn once, and the epoch, a number
 * that grows at each start of the host. The edge refuses an older epoch, so a host that comes back
 * cannot be mistaken for the one that left; and it never goes back, even where the file is lost:
 * the segments know the last one, and without them the clock names one that no former life had.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { readChecked } from './checked-file.ts'
import type { Disk } from './disk.ts'

const journalIdentity = z.object({ journal_id: z.string().min(1), epoch: z.int().min(0) })
export type JournalIdentity = z.infer<typeof journalIdentity>

export interface StoredIdentity {
  readonly identity: JournalIdentity | null
  readonly isDamaged: boolean
}

/** Seconds since then are the epoch of a new journal: more than its starts, and below 2³¹. */
const EPOCH_ZERO_MS = Date.UTC(2020, 0, 1)

export function identityPath(directory: string): string {
  return join(directory, 'epoch')
}

export function readIdentity(disk: Disk, directory: string): StoredIdentity {
  const content = readChecked(disk, identityPath(directory), journalIdentity)
  if (content.state === 'present') return { identity: content.value, isDamaged: false }
  if (content.state === 'missing') return { identity: null, isDamaged: false }
  // Journals of format 1 hold the number alone.
  if (/^\d{1,15}\n$/.test(content.text)) {
    return {
      identity: { journal_id: createJournalId(), epoch: Number(content.text) },
      isDamaged: false,
    }
  }
  return { identity: null, isDamaged: true }
}

/** For the start that comes now. `recovered`: what the heads of the segments say. */
export function nextIdentity(
  stored: JournalIdentity | null,
  recovered: { readonly journalId: string | null; readonly lastEpoch: number | null },
  nowMs: number,
): JournalIdentity {
  const known = Math.max(stored?.epoch ?? 0, recovered.lastEpoch ?? 0)
  return {
    journal_id: stored?.journal_id ?? recovered.journalId ?? createJournalId(),
    epoch: known > 0 ? known + 1 : Math.max(1, Math.floor((nowMs - EPOCH_ZERO_MS) / 1000)),
  }
}

function createJournalId(): string {
  return `jnl_${randomUUID()}`
}
