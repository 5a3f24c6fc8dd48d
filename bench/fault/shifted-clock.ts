/**
 * Preloaded into processes whose wall clock is wrong: `Date` says a time that is as far off as the
 * environment tells. The monotonic clock goes on as it does.
 */
const VARIABLE = 'NOZZLE_FAULT_CLOCK_OFF_MS'

export function toClockEnvironment(offMs: number): Record<string, string> {
  return offMs === 0 ? {} : { [VARIABLE]: String(offMs) }
}

const offMs = Number(process.env[VARIABLE] ?? 0)
const { now: realNow } = Date
const now = () => realNow() + offMs
const shifted = new Proxy(Date, {
  construct: (target, parts, newTarget) =>
    Reflect.construct(target, parts.length === 0 ? [now()] : parts, newTarget),
  get: (target, name, receiver) => (name === 'now' ? now : Reflect.get(target, name, receiver)),
})

if (offMs !== 0) Object.assign(globalThis, { Date: shifted })
