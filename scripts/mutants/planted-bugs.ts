/**
 * The table of planted bugs: each was made by somebody in earnest, in a gateway, a meter or a
 * journal, and cost customers or the operator money. One change each, and the narrowest tests that
 * must see it.
 */
import type { PlantedBug } from './planted-bug.ts'
import { FRONT_DOOR_BUGS } from './planted-front-door-bugs.ts'
import { HOST_BUGS, JOURNAL_BUGS } from './planted-host-bugs.ts'
import { INPUT_BUGS } from './planted-input-bugs.ts'
import { ISOLATION_BUGS } from './planted-isolation-bugs.ts'
import { LEAK_BUGS } from './planted-leak-bugs.ts'

/** Suites of db run on every kind of database; one is enough to see a bug of the SQL. */
const ON_PGLITE = 'on PGlite'

const LEDGER_BUGS: readonly PlantedBug[] = [
  {
    name: 'no-conflict-clause',
    harm: 'a batch that comes twice is refused for ever, and holds up all behind it',
    file: 'db/queries/usage.ts',
    from: '      on conflict (request_id, attempt) do nothing\n',
    to: '',
    tests: ['db/test/usage.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'burst-before-the-leave',
    harm: 'an edge that was away bills a client that left for all that came meanwhile',
    file: 'edge/pool/attempt.ts',
    from: 'if (!call.isWhole && events.length >= BURST_EVENTS) await readPending()',
    to: '',
    tests: ['edge/pool/attempt.test.ts'],
  },
  {
    name: 'explicit-zero-replaced',
    harm: 'a price of zero is taken for no price: what is free costs the current price',
    file: 'db/queries/usage.ts',
    from: 'coalesce(named.completion_pusd, newest.completion_pusd, 0)',
    to: 'coalesce(nullif(named.completion_pusd, 0), newest.completion_pusd, 0)',
    tests: ['db/test/usage.test.ts', 'db/test/delivery.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'rounded-per-event',
    harm: 'a cent is made or lost every few hundred requests',
    file: 'db/queries/usage.ts',
    from: `        (prompt_tokens - cached) * per_prompt + cached * per_cached
          + completion_tokens * per_completion as amount_pusd,`,
    to: `        round(((prompt_tokens - cached) * per_prompt + cached * per_cached
          + completion_tokens * per_completion) / 1000000) * 1000000 as amount_pusd,`,
    tests: ['db/test/usage.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'cached-billed-twice',
    harm: 'cached prompt tokens cost their own price and the full one',
    file: 'db/queries/usage.ts',
    from: '(prompt_tokens - cached) * per_prompt',
    to: 'prompt_tokens * per_prompt',
    tests: ['db/test/usage.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'superseded-not-reversed',
    harm: 'a request that went from host to host is paid for on each',
    file: 'db/queries/usage.ts',
    from: "select *, 'usage_reversal', revenue_account, tenant_account from superseded",
    to: "select *, 'usage_reversal', revenue_account, tenant_account from superseded where false",
    tests: ['db/test/usage.test.ts', 'db/test/delivery.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'month-by-host-clock',
    harm: 'a host whose clock is wrong moves usage to another invoice',
    file: 'db/queries/usage.ts',
    from: 'return madeMs === null ? event.ended_at : new Date(madeMs).toISOString()',
    to: 'return madeMs === -1 ? new Date(madeMs).toISOString() : event.ended_at',
    tests: ['db/test/delivery.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'late-usage-dropped',
    harm: 'what comes after the invoice of its month is final is billed by nobody',
    file: 'db/queries/invoices.ts',
    from: 'join numbered on numbered.tenant_id = r.tenant_id\n      where r.hour < draft.period_end',
    to: `join numbered on numbered.tenant_id = r.tenant_id
      where r.hour >= draft.period_start and r.hour < draft.period_end`,
    tests: ['db/test/invoices.test.ts'],
    named: ON_PGLITE,
  },
]

const LIMIT_BUGS: readonly PlantedBug[] = [
  {
    name: 'charge-not-posted-to-lease',
    harm: 'money that is spent is free to be spent again: the budget is no limit',
    file: 'db/queries/usage.ts',
    from: 'set posted_pusd = posted_pusd + charged_leases.pusd',
    to: 'set posted_pusd = posted_pusd',
    tests: ['db/test/limits.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'key-without-body-hash',
    harm: 'an idempotency key that is used twice by mistake gets the answer to another question',
    file: 'db/queries/idempotency-keys.ts',
    from: "  if (row.body_hash !== request.bodyHash) return { type: 'reused' }\n",
    to: '',
    tests: ['db/test/limits.test.ts'],
    named: ON_PGLITE,
  },
  {
    name: 'concurrency-released-twice',
    harm: 'each request that ends lets two others in: the limit fades away',
    file: 'edge/admission/concurrency-account.ts',
    from: `      this.#inUse -= need
      this.freed()`,
    to: `      this.#inUse -= need * 2n
      this.freed()`,
    tests: ['edge/admission/accounts.test.ts'],
  },
  {
    name: 'refused-request-keeps-its-holds',
    harm: 'a request that one limit refuses uses the other limits up',
    file: 'edge/admission/limiter.ts',
    from: "        if (outcome.type !== 'held') release(holds)\n",
    to: '',
    tests: ['edge/test/limits.test.ts'],
  },
]

const EDGE_BUGS: readonly PlantedBug[] = [
  {
    name: 'stale-key-for-ever',
    harm: 'a key that is revoked works for as long as the database is away',
    file: 'edge/lookup-cache.ts',
    from: 'if (entry === undefined || !this.#outage.covers(entry.askedMs)) throw error',
    to: 'if (entry === undefined) throw error',
    tests: ['edge/lookup-cache.test.ts'],
  },
  {
    name: 'outage-taken-for-unknown',
    harm: 'while the database hangs, customers are told that their keys are wrong',
    file: 'edge/lookup-cache.ts',
    from: 'throw databaseUnavailable()',
    to: 'return null',
    tests: ['edge/lookup-cache.test.ts'],
  },
]

export const PLANTED_BUGS: readonly PlantedBug[] = [
  ...HOST_BUGS,
  ...JOURNAL_BUGS,
  ...FRONT_DOOR_BUGS,
  ...LEAK_BUGS,
  ...LEDGER_BUGS,
  ...LIMIT_BUGS,
  ...EDGE_BUGS,
  ...ISOLATION_BUGS,
  ...INPUT_BUGS,
]
