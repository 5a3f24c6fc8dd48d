/**
 * Preloaded into an edge process of the fault bench: ends it, or the PostgreSQL process that it
 * talks to, at the nth statement that stores usage events, in a given phase of that statement.
 */
import { setImmediate } from 'node:timers'
import pg from 'pg'
import { z } from 'zod'
import { dieNow, type KillPoint, onArmed } from './kill-point.ts'

type IngestPoint = Extract<KillPoint, { at: 'ingest' }>
type Callback = (...outcome: unknown[]) => void

const statement = z.union([z.string(), z.object({ text: z.string() }).transform((it) => it.text)])
const connection = z.object({ processID: z.int() })
const STORES_EVENTS = 'insert into usage_events'

let armed: IngestPoint | null = null
onArmed((point) => {
  armed = point?.at === 'ingest' ? { ...point } : null
})

const query: (...args: unknown[]) => unknown = pg.Client.prototype.query

/** The pool passes its callback last. */
function queryOrDie(this: unknown, ...args: unknown[]): unknown {
  const point = takePoint(args[0])
  if (point === null) return Reflect.apply(query, this, args)
  const { processID } = connection.parse(this)
  const kill = (): void => {
    if (point.victim === 'edge') dieNow()
    process.kill(processID, 'SIGKILL')
    process.send?.({ type: 'fired' })
  }
  if (point.phase === 'before') kill()
  if (point.phase === 'sent') setImmediate(kill)
  if (point.phase !== 'committed') return Reflect.apply(query, this, args)
  const answered = args.at(-1)
  if (!isCallback(answered)) throw new Error('the pool passed no callback')
  const callback: Callback = (...outcome) => {
    kill()
    answered(...outcome)
  }
  return Reflect.apply(query, this, [...args.slice(0, -1), callback])
}

function takePoint(config: unknown): IngestPoint | null {
  if (armed === null || !statement.safeParse(config).data?.includes(STORES_EVENTS)) return null
  armed.nth -= 1
  if (armed.nth > 0) return null
  const point = armed
  armed = null
  return point
}

function isCallback(value: unknown): value is Callback {
  return typeof value === 'function'
}

Object.assign(pg.Client.prototype, { query: queryOrDie })
