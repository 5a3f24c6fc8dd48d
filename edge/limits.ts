/** Every bound and timeout of the edge, unit in the name, with its reason. */

import type { Pace } from '#wire/pace.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Request line and headers together; cookies of pages are a few hundred bytes. */
export const HEADER_BYTES_MAX = 16 * KIB
/** All headers must be there by then. */
export const HEADERS_TIMEOUT_MS = 15_000
/** A body that arrives more slowly is given up: a client that trickles holds memory and a place. */
export const BODY_PACE: Pace = { graceMs: 15_000, bytesPerSecond: 16 * KIB }
/** A client that takes nothing of its reply for so long is cut. */
export const REPLY_PACE: Pace = { graceMs: 30_000, bytesPerSecond: 16 * KIB }
/** A client that is still sending gets this long to read why it was answered already. */
export const LINGER_MS = 2000
/** How often connections are looked at: late headers, replies that nobody reads. */
export const CONNECTION_SWEEP_MS = 1000
/** Of one process. Idle ones cost some KiB, and a file each. */
export const CONNECTIONS_MAX = 16_384
/** A key that is revoked ends its streams within this and KEY_TTL_MS. */
export const KEY_WATCH_MS = 10_000

/** Body of an inference request. Below the host's own cap, since it grows a little on the way. */
export const REQUEST_BYTES_MAX = 3.5 * MIB
/** What an error quotes of a request: of a field's name, and in all. */
export const ERROR_PARAM_CHARACTERS_MAX = 300
export const ERROR_MESSAGE_CHARACTERS_MAX = 1000
/** Such a body comes with its headers, in one go: what is read in parts costs more to read. */
export const BODY_AT_ONCE_BYTES_MAX = 12 * KIB
/** Body of an admin request: names and scopes. */
export const ADMIN_BYTES_MAX = 64 * KIB
/** Names up to 4096 parts of an upload by their hashes. */
export const UPLOAD_FILES_BYTES_MAX = 320 * KIB
/** A heartbeat names up to 100,000 adapters of about 100 bytes each. */
export const HEARTBEAT_BYTES_MAX = 16 * MIB
/** 1000 events of about 1 KiB each. */
export const USAGE_BATCH_BYTES_MAX = 4 * MIB

/**
 * How long a key's row is believed, found or not. Revocation must be effective within 10 s while
 * the database answers within a second.
 */
export const KEY_TTL_MS = 5000
/** How long other edges serve the version before, or a removed model. This edge knows at once. */
export const MODEL_TTL_MS = 2000
/** Prices are immutable versions; an older one stays valid for a while. */
export const PRICE_TTL_MS = 10_000
/** Entries of each cache. */
export const CACHE_ENTRIES_MAX = 20_000

/** A look-up of something known waits this long; then the database counts as away. */
export const LOOKUP_WAIT_MS = 1000
/** A look-up of something unknown: above the 3 s in which db/availability.ts notices a hang. */
export const LOOKUP_MS_MAX = 4000
/** After a look-up of something known failed, it is not asked for again within this time. */
export const OUTAGE_RETRY_MS = 1000
/** What the database said within this time before an outage is believed during it. */
export const OUTAGE_SEEN_MS_MAX = 600_000
/** So long after an outage began; then the edge refuses everybody. */
export const OUTAGE_GRACE_MS = 900_000

/** What others stored so long after this edge lost the database was not stored before it … */
export const CUT_OFF_AFTER_MS = 2000
/** … and when they have stored things for so long, this edge alone is cut off: 8 s in all. */
export const CUT_OFF_LASTS_MS = 2000

/** From one measurement of the database's clock to the next. */
export const CLOCK_INTERVAL_MS = 30_000
/** After one that failed; also how often the edge looks whether it is time. */
export const CLOCK_RETRY_MS = 5000
export const CLOCK_SAMPLES = 5
/** The machine's clock was set, or the machine slept: measured at once. */
export const CLOCK_JUMP_MS = 1000
/** An alarm: grants survive 5 s between this machine and a host. */
export const CLOCK_OFFSET_MS_MAX = 2000

/** Age at which the snapshot of hosts is read again, beside the requests … */
export const POOL_VIEW_TTL_MS = 1000
/** … and beyond which a request waits for it rather than go by it. */
export const POOL_VIEW_AGE_MS_MAX = 2000
/** Node looks so often at what the pool's upkeep has to do. */
export const POOL_UPKEEP_MS = 250
/** Five missed heartbeats: the host gets no new requests. */
export const HOST_SEEN_MS_MAX = 5000
/**
 * Two missed heartbeats: the host is asked last, and whether it lives. One that reports to other
 * edges may be known a snapshot later.
 */
export const HOST_SILENT_MS = 2000
/** A snapshot of more is not one of a pool. */
export const HOSTS_MAX = 20_000
/** A heartbeat that claims more sequences, slots or waiting requests is not believed. */
export const HOST_CLAIM_MAX = 1_000_000
/** Nor one that claims a longer context … */
export const HOST_CONTEXT_MAX = 100_000_000
/** … or a longer wait: a day. */
export const HOST_WAIT_MS_MAX = 86_400_000
/** What this edge saw of a host is kept for so long after it was last heard of. */
export const HEALTH_KEPT_MS = 600_000

/** Failures in a row that eject a host which says that it is well. */
export const FAILURES_IN_ROW_MAX = 3
/** A host is out for so long at first, twice as long each time, up to the most. */
export const EJECTION_MS_MIN = 1000
export const EJECTION_MS_MAX = 30_000
/** Longer or shorter by up to this part, so that edges do not ask in step. */
export const EJECTION_JITTER = 0.2
/** A host that was in for so long begins at the least again. */
export const EJECTIONS_FORGOTTEN_MS = 60_000
/** From half of its share to all of it, after it came back or started. */
export const SLOW_START_MS = 10_000
export const SLOW_START_SHARE = 0.5
/** From one question to an ejected host that beats again to the next. */
export const PROBE_PAUSE_MS = 500
/** Slow: its first token takes so many times what the others' take, and so much longer. */
export const SLOW_FACTOR = 4
export const SLOW_MS_MIN = 250
/** Without a sample for so long, what was measured of a host counts no more. */
export const PACE_KEPT_MS = 15_000
/** The least that a slow host is given: enough to notice that it is slow no more. */
export const PACE_SHARE_MIN = 0.1

/** Tries at other hosts: a tenth of the requests of the last 60 s … */
export const RETRY_SHARE = 0.1
export const RETRY_WINDOW_MS = 60_000
/** … and always so many, so that a quiet pool can lose a host. */
export const RETRIES_MIN = 20
/** What a host refused it would refuse again so soon after: a queue is not done by then. */
export const HOST_REFUSAL_KEPT_MS = 100
/** Clients that are refused together come back apart: up to this part later. */
export const RETRY_AFTER_JITTER = 0.25

/** No hint goes to a host that is busier than this part of its capacity. */
export const LOAD_CLAIM_SHARE = 1
/** A wait of so long counts as much as all of a host's sequences. */
export const WAIT_FULL_MS = 1000
/** An adapter that takes more than this part of its hosts' capacity gets one host more … */
export const REPLICA_SHARE = 0.75
/** … and keeps it until its demand is below this part of what would give it one. */
export const REPLICA_KEEP_SHARE = 0.75
/** Demand counts when it lasts: a burst that is over before another host has loaded needs none. */
export const REPLICA_RISE_MS = 3000
export const REPLICA_FALL_MS = 30_000
/** Adapters and tenants of which an edge remembers how they fare. */
export const PLACEMENTS_MAX = 20_000
/** An adapter that was sent to a host counts as there until heartbeats can have said so. */
export const COMING_MS = 3000

/** Hosts that a tenant may break before it is held: two of 8 to 31, one more of each four times. */
export const SHARD_HOSTS_MIN = 2
export const SHARD_HOSTS_AT = 8
export const SHARD_GROWTH = 4
/** Answers in a row that let a tenant be on one host more at a time. */
export const ANSWERS_PER_HOST = 4
/** A request has done a host no harm when it has given so many chunks, or has ended. */
export const PROOF_CHUNKS = 32
/** A tenant under whose requests host after host was lost: longer than a host takes to restart. */
export const HOLD_MS = 15_000
export const HOLD_MS_MAX = 600_000
/** So long after its last loss a tenant is as any other. */
export const STRIKE_KEPT_MS = 1_800_000
/** A heartbeat so long after a host was lost is not one from before: above POOL_VIEW_TTL_MS. */
export const LOSS_SEEN_MS = 3000
/** Hosts ordered for one request: more than are tried, since some may be known to refuse. */
export const HOSTS_ORDERED_MAX = 16
/** Hosts tried for one request. */
export const HOST_ATTEMPTS_MAX = 3
export const HOST_PATIENCE: HostPatience = {
  /** A host says something every 500 ms; two missed, and it is asked whether it lives … */
  doubtMs: 1000,
  /** … which takes a few ms; one that does not answer in this time hangs: known within 1.75 s. */
  probeMs: 750,
  /** One that lives, and whose stream says nothing for so long: that connection is dead. */
  silenceMs: 1750,
  /** A host that lives holds reply headers for 250 ms, and may be busy with long bodies. */
  headersMs: 4000,
}
/** Milliseconds of silence, and what each is for. */
export interface HostPatience {
  readonly doubtMs: number
  readonly probeMs: number
  readonly silenceMs: number
  readonly headersMs: number
}
/** A host that takes longer to hear a command hears it in the answer to its next heartbeat. */
export const HOST_COMMAND_TIMEOUT_MS = 2000
/** A host that was silent for longer is listed only while the operator wants something of it. */
export const HOST_LISTED_MS = 3_600_000
/** How long a host may take to hear that its client has left, before its connection is closed. */
export const CANCEL_TIMEOUT_MS = 1000
/** Voids that wait while the database is away: some megabytes, and minutes of a pool in ruins. */
export const VOIDS_MAX = 10_000
export const VOID_BATCH_EVENTS_MAX = 500
/** Of a tenant, of all its models, removed ones too; its bytes are the operator's to set. */
export const TENANT_VERSIONS_MAX = 100_000
/** Tenants whose uploads of the last minute are remembered. */
export const ACCOUNTS_REMEMBERED_MAX = 20_000
/** Checking and converting an adapter of a gigabyte. */
export const UPLOAD_TIMEOUT_MS = 900_000

/** A client's reply headers wait this long for a refusal that can still have its own status. */
export const HEADER_HOLD_MS = 5000
/** Comments that keep proxies from closing a stream that waits. */
export const KEEP_ALIVE_MS = 10_000

/** Nonces of host calls that are remembered, each for about 35 s. */
export const NONCES_MAX = 100_000

/** A portion of a rate is for so long; as take_units() in db/migrations has it. */
export const RATE_SLICE_MS = 5000
export const RATE_WINDOW_MS = 60_000
/** An edge takes a twentieth of a rate at a time: asked again 20 times a minute at full rate. */
export const RATE_PORTIONS = 20n
/** Requests at once: a tenth of the limit at a time. */
export const CONCURRENCY_PORTIONS = 10n
/** Twice within the 60 s after which an edge's share of requests at once counts no more. */
export const CONCURRENCY_RENEW_MS = 20_000
/** A spend lease is for so many of the request that asks; near the cap the database gives less. */
export const LEASE_WANT_FACTOR = 32n
/** Often enough within the 15 min after which a lease counts no more. */
export const LEASE_RENEW_MS = 60_000
/** What an edge holds and did not use for so long goes back. */
export const IDLE_PORTION_MS = 2000
/** An edge looks so often at what it holds, while it holds anything. */
export const UPKEEP_INTERVAL_MS = 1000
/** Of one round; the rest has its turn in the next. */
export const UPKEEP_ASKS_MAX = 500
/** What one refusal says is believed for so long at most; others may give back meanwhile. */
export const REFUSAL_KEPT_MS_MAX = 250
/**
 * Requests that wait for another's question to the database look again so often, so long; about
 * keys and models ever less often.
 */
export const ASK_PAUSE_MS = 5
export const ASK_WAIT_MS_MAX = 2000
/** Longer than any question lasts: one without an answer vanished with its asker. */
export const ASK_VANISHED_MS = 60_000
/** After a failed question the database is left alone for so long. */
export const DATABASE_REST_MS = 1000
/** During an outage an edge may spend this part of what was left when it last asked. */
export const OUTAGE_SHARE = 4n
/** A request whose end was not seen: its usage event is looked for from then on … */
export const UNKNOWN_COST_ASKED_MS = 2000
/** … and until then, which a lease lives without its edge too. */
export const UNKNOWN_COST_KEPT_MS = 900_000
/** Where no token was seen there may be none to come, and it is of the prompt's tokens at most. */
export const UNBEGUN_COST_KEPT_MS = 10_000
/** How long an unused limit is remembered: above OUTAGE_GRACE_MS, whose share rests on it. */
export const ACCOUNT_KEPT_MS = 1_200_000
/** Where no host has said how long its context is. */
export const CONTEXT_LENGTH_DEFAULT = 131_072

export const IDEMPOTENCY_KEY_CHARACTERS_MAX = 255
/** A longer reply is not kept. */
export const IDEMPOTENT_REPLY_BYTES_MAX = MIB
/** Twice within the 30 s after which another edge may take over. */
export const CLAIM_RENEW_MS = 10_000
