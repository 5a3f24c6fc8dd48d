import { describe, expect, it } from 'vitest'
import { VirtualClock } from '../test/support/virtual-clock.ts'
import { GuardedStore } from './guarded-store.ts'
import type { AdapterStore } from './store-tier.ts'

const { signal } = new AbortController()
const never = (): Promise<never> => new Promise(() => {})

type Get = AdapterStore['get']

async function* bytesThen(end: () => Promise<void>): AsyncGenerator<Uint8Array> {
  yield Uint8Array.of(1)
  await end()
  yield Uint8Array.of(2)
}

/** `get` may be changed while the test runs. */
function createRig() {
  const clock = new VirtualClock()
  const logs: string[] = []
  const asked: string[] = []
  const inner: AdapterStore & { get: Get } = {
    get: async () => null,
    put: async () => {},
  }
  const store = new GuardedStore({
    store: {
      get: (digest, inside) => {
        asked.push(digest)
        return inner.get(digest, inside)
      },
      put: (digest, path) => inner.put(digest, path),
    },
    clock,
    log: (level, message) => logs.push(`${level} ${message}`),
  })
  return { clock, logs, asked, inner, store }
}

async function read(store: AdapterStore, digest = 'a'): Promise<number[] | null> {
  const chunks = await store.get(digest, signal)
  if (chunks === null) return null
  return (await Array.fromAsync(chunks)).flatMap((chunk) => [...chunk])
}

/** How it ended by now; undefined = not yet. */
function watch<T>(work: Promise<T>): () => unknown {
  let end: unknown
  work.then(
    (value) => {
      end = value
    },
    (error: unknown) => {
      end = error
    },
  )
  return () => end
}

const refused = expect.objectContaining({ code: 'store_unavailable', status: 503 })
const fail: Get = async () => {
  throw new Error('no route')
}

describe('GuardedStore', () => {
  it('passes on what the store says while it answers', async () => {
    const { store, inner, logs } = createRig()
    expect(await read(store)).toBeNull()
    inner.get = async () => bytesThen(async () => {})
    expect(await read(store)).toEqual([1, 2])
    expect(logs).toEqual([])
  })

  it('cuts silence short, however long the whole may take', async () => {
    const { store, inner, clock } = createRig()
    inner.get = never
    const hung = watch(read(store))
    await clock.advance(14_999)
    expect(hung()).toBeUndefined()
    await clock.advance(1)
    expect(hung()).toEqual(refused)
    await clock.advance(60_000)
    // Slow, but never silent for long: 40 s in all.
    inner.get = async () =>
      (async function* () {
        for (let i = 0; i < 4; i += 1) {
          await new Promise<void>((resolve) => void clock.setTimer(10_000, resolve))
          yield Uint8Array.of(i)
        }
      })()
    const slow = watch(read(store))
    await clock.advance(40_000)
    expect(slow()).toEqual([0, 1, 2, 3])
  })

  it('does not count the time in which the reader is busy', async () => {
    const { store, inner, clock } = createRig()
    inner.get = async () => bytesThen(async () => {})
    const chunks = await store.get('a', signal)
    const iterator = chunks?.[Symbol.asyncIterator]()
    await iterator?.next()
    await clock.advance(100_000)
    expect(await iterator?.next()).toMatchObject({ done: false })
  })

  it('refuses at once after a failure, then tries with one read at a time', async () => {
    const { store, inner, clock, asked, logs } = createRig()
    inner.get = fail
    await expect(read(store, 'first')).rejects.toEqual(refused)
    const error: unknown = await read(store, 'second').catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'store_unavailable', retryAfterMs: 1000 })
    expect(asked).toEqual(['first'])
    await clock.advance(1000)
    inner.get = never
    const probe = watch(read(store, 'probe'))
    await expect(read(store, 'third')).rejects.toEqual(refused)
    expect(asked).toEqual(['first', 'probe'])
    await clock.advance(15_000)
    expect(probe()).toEqual(refused)
    // The pause has doubled.
    await clock.advance(1999)
    await expect(read(store, 'fourth')).rejects.toMatchObject({ retryAfterMs: 1000 })
    await clock.advance(1)
    inner.get = async () => bytesThen(async () => {})
    expect(await read(store, 'fifth')).toEqual([1, 2])
    expect(await read(store, 'sixth')).toEqual([1, 2])
    expect(logs.at(-1)).toBe('info the adapter store answers again')
  })

  it('is open to others as soon as the first bytes have come', async () => {
    const { store, inner, clock } = createRig()
    inner.get = fail
    await expect(read(store)).rejects.toEqual(refused)
    await clock.advance(1000)
    inner.get = async () => bytesThen(never)
    const chunks = await store.get('a', signal)
    await chunks?.[Symbol.asyncIterator]().next()
    inner.get = async () => null
    expect(await read(store, 'b')).toBeNull()
  })

  it('holds a caller who left against nobody', async () => {
    const { store, inner, asked } = createRig()
    const caller = new AbortController()
    inner.get = never
    const left = store.get('a', caller.signal)
    caller.abort(new Error('gone'))
    await expect(left).rejects.toThrow('gone')
    inner.get = async () => null
    expect(await read(store, 'b')).toBeNull()
    expect(asked).toEqual(['a', 'b'])
  })

  it('lets the next one try when a probe was given up', async () => {
    const { store, inner, clock } = createRig()
    inner.get = fail
    await expect(read(store)).rejects.toEqual(refused)
    await clock.advance(1000)
    inner.get = async () => bytesThen(never)
    const chunks = await store.get('a', signal)
    const iterator = chunks?.[Symbol.asyncIterator]()
    await iterator?.next()
    await iterator?.return?.()
    inner.get = async () => null
    expect(await read(store)).toBeNull()
  })

  it('tells a deploy that it could not be stored', async () => {
    const { store, inner } = createRig()
    inner.put = async () => {
      throw new Error('no route')
    }
    await expect(store.put('a', 'path')).rejects.toEqual(refused)
    expect(await read(store)).toBeNull()
  })
})
