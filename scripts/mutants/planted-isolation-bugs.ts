/**
 * Planted bugs of isolation: servers in earnest have keyed their caches by an adapter's name, let a
 * slot change under a running request, answered from the base where an adapter was missing, and
 * read one request's reply as another's.
 */
import type { PlantedBug } from './planted-bug.ts'

const IDENTITY = 'gpu-host/scheduler/kv-identity.ts'
const IDENTITY_TESTS = ['gpu-host/scheduler/kv-identity.test.ts']
const RANDOM_WORLDS = 'by random worlds'
/** The real engine, answers known token by token. */
const REAL = ['bench/isolation.test.ts']

const KEY_BUGS: readonly PlantedBug[] = [
  {
    name: 'kv-key-without-digest',
    harm: "a prompt goes on from what another adapter's weights made of its beginning",
    file: IDENTITY,
    from: '[adapter.digest, adapter.content]',
    to: '[]',
    tests: REAL,
  },
  {
    name: 'kv-key-without-tenant',
    harm: 'a tenant learns by its timing, and its bill, what another one has asked',
    file: IDENTITY,
    from: '[DOMAIN, tenantId, baseDigest, parts]',
    to: '[DOMAIN, baseDigest, parts]',
    tests: REAL,
  },
  {
    name: 'kv-key-without-tenant-in-worlds',
    harm: 'the same, and the random worlds must see it by themselves',
    file: IDENTITY,
    from: '[DOMAIN, tenantId, baseDigest, parts]',
    to: '[DOMAIN, baseDigest, parts]',
    tests: IDENTITY_TESTS,
    named: RANDOM_WORLDS,
  },
  {
    name: 'kv-key-by-files-alone',
    harm: 'an adapter that was converted anew, with another scale, goes on from old cells',
    file: IDENTITY,
    from: '[adapter.digest, adapter.content]',
    to: '[adapter.digest]',
    tests: IDENTITY_TESTS,
    named: RANDOM_WORLDS,
  },
  {
    name: 'kv-key-without-base',
    harm: 'cells of another base model are taken for those of this one',
    file: IDENTITY,
    from: '[DOMAIN, tenantId, baseDigest, parts]',
    to: '[DOMAIN, tenantId, parts]',
    tests: IDENTITY_TESTS,
    named: RANDOM_WORLDS,
  },
  {
    name: 'hit-by-hash-alone',
    harm: "two beginnings of one hash are one: a prompt goes on from another's text",
    file: 'gpu-host/scheduler/page-pool.ts',
    from: 'return found !== undefined && areEqual(found.tokens, tokens) ? found : null',
    to: 'return found ?? null',
    tests: ['gpu-host/scheduler/page-pool.test.ts'],
  },
  {
    name: 'page-cached-before-it-is-full',
    harm: "what a page's earlier owner left in its last cells is read as one's own",
    file: 'gpu-host/scheduler/page-pool.ts',
    from: '(chain.length + 1) * this.pageCells <= filledCells',
    to: 'chain.length * this.pageCells < filledCells',
    tests: ['gpu-host/scheduler/page-pool.test.ts'],
  },
  {
    name: 'failed-cells-kept',
    harm: 'what a sequence left whose numbers were no numbers is served to the next',
    file: 'gpu-host/scheduler/scheduler.ts',
    from: 'if (!endings.has(sequence.owner)) this.#kv.publish(sequence)',
    to: 'this.#kv.publish(sequence)',
    tests: ['gpu-host/scheduler/kv-memory.test.ts'],
  },
  {
    name: 'vllm-salt-of-nobody',
    harm: "a vLLM server's prefix cache is shared by all tenants",
    file: 'gpu-host/vllm/vllm-runner.ts',
    from: 'salt: kvSalt(toOwner(sequence, loras.info.baseDigest)),',
    to: 'salt: loras.info.baseDigest,',
    tests: ['gpu-host/vllm/vllm-host.test.ts'],
  },
]

const SLOT_BUGS: readonly PlantedBug[] = [
  {
    name: 'slot-generation-not-checked',
    harm: 'a lease of an earlier load is taken for one on the next: rows run with other weights',
    file: 'gpu-host/adapters/slot-table.ts',
    from: 'const isPinned = slot.generation === generation && slot.pins > 0',
    to: 'const isPinned = slot.pins > 0',
    tests: IDENTITY_TESTS,
    named: RANDOM_WORLDS,
  },
  {
    name: 'generation-given-twice',
    harm: 'where the numbers of loads end, an old lease is as good as a new one',
    file: 'gpu-host/adapters/slot-table.ts',
    from: 'if (slot.generation >= Number.MAX_SAFE_INTEGER) throw',
    to: 'if (slot.generation < 0) throw',
    tests: ['gpu-host/adapters/slot-table.test.ts'],
  },
  {
    name: 'pinned-slot-evicted',
    harm: "a running request's adapter is replaced under it",
    file: 'gpu-host/adapters/slot-table.ts',
    from: "if (slot.state !== 'resident' || slot.pins > 0 || slot.digest === null) continue",
    to: "if (slot.state !== 'resident' || slot.digest === null) continue",
    tests: ['gpu-host/adapters/slot-table.test.ts'],
  },
  {
    name: 'steps-not-guarded',
    harm: 'whatever is wrong with the books is found out by a customer',
    file: 'gpu-host/scheduler/scheduler.ts',
    from: 'return this.#guard(this.#kv.fit(plan))',
    to: 'return this.#kv.fit(plan)',
    tests: ['gpu-host/scheduler/isolation.test.ts'],
  },
  {
    name: 'missing-adapter-is-the-base',
    harm: 'a customer gets, and pays for, answers of a model that is not theirs',
    file: 'gpu-host/scheduler/row-guard.ts',
    from: "if (lease === null) return 'its adapter is in no slot'",
    to: 'if (lease === null) return null',
    tests: IDENTITY_TESTS,
  },
  {
    name: 'cancel-without-release',
    harm: 'slots of requests that are gone stay taken, until the host serves nobody',
    file: 'gpu-host/scheduler/scheduler.ts',
    from: '      sequence.lease?.release()\n    }\n    sequence.state',
    to: '    }\n    sequence.state',
    tests: ['gpu-host/scheduler/isolation.test.ts'],
  },
  {
    name: 'pages-kept-after-the-end',
    harm: 'pages of requests that are gone stay taken, until no prompt fits',
    file: 'gpu-host/scheduler/kv-memory.ts',
    from: '    sequence.isOpenInEngine = false\n    this.#release(sequence)',
    to: '    sequence.isOpenInEngine = false',
    tests: ['gpu-host/scheduler/isolation.test.ts'],
  },
]

const REPLY_BUGS: readonly PlantedBug[] = [
  {
    name: 'request-id-not-compared',
    harm: "a reply that belongs to another request is read as one's own",
    file: 'edge/pool/attempt.ts',
    from: "event.type === 'accepted' ? event.request_id === call.requestId : isAccepted",
    to: "event.type === 'accepted' || isAccepted",
    tests: ['edge/pool/own-reply.test.ts'],
  },
  {
    name: 'reply-header-not-compared',
    harm: "another tenant's receipt, or refusal, is taken for one's own",
    file: 'edge/pool/own-reply.ts',
    from: 'return answeredId !== null && answeredId !== requestId',
    to: 'return answeredId !== null && answeredId === null',
    tests: ['edge/pool/own-reply.test.ts'],
  },
  {
    name: 'foreign-connection-kept',
    harm: 'a connection that is one reply behind gives every later caller the reply of the one before',
    file: 'edge/node-transport.ts',
    from: '      controller.abort(new ForeignReply())\n',
    to: '      this.#fail(new ForeignReply())\n',
    tests: ['edge/node-transport.test.ts'],
  },
]

export const ISOLATION_BUGS: readonly PlantedBug[] = [...KEY_BUGS, ...SLOT_BUGS, ...REPLY_BUGS]
