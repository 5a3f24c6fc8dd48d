/** What the operator wants of hosts; how a host reports is in hosts.ts. */
import { asc, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { type HostWishRow, hostWishes } from '../schema/host-wishes.ts'
import { hosts } from '../schema/hosts.ts'

export type { HostWishRow }

export type HostWish = HostWishRow['wish']

/** Takes a host that was removed in again. */
export async function setHostWish(db: Db, host: { id: string; wish: HostWish }): Promise<void> {
  const values = { wish: host.wish, removedAt: null, changedAt: sql`now()` }
  await db
    .insert(hostWishes)
    .values({ hostId: host.id, ...values })
    .onConflictDoUpdate({ target: hostWishes.hostId, set: values })
}

/** Forgets what the host reported, and lets it take nothing should it report again. */
export async function removeHost(db: Db, hostId: string): Promise<void> {
  await db.execute(sql`
    with forgotten as (delete from ${hosts} where id = ${hostId})
    insert into ${hostWishes} (host_id, wish, removed_at) values (${hostId}, 'drain', now())
    on conflict (host_id) do update set wish = excluded.wish, removed_at = excluded.removed_at,
      changed_at = now()`)
}

/** By host; removed ones too. */
export async function listHostWishes(db: Db): Promise<HostWishRow[]> {
  return db.select().from(hostWishes).orderBy(asc(hostWishes.hostId))
}
