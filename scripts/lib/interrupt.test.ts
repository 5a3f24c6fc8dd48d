import { EventEmitter } from 'node:events'
import { describe, expect, it } from 'vitest'
import { watchInterrupts, whenAborted } from './interrupt.ts'

function watch() {
  const source = new EventEmitter()
  const clock = { nowMs: 1000 }
  const interrupts = watchInterrupts(source as NodeJS.Process, () => clock.nowMs)
  return { source, clock, ...interrupts }
}

describe('watchInterrupts', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'disconnect'])('stops on %s', async (event) => {
    const { source, stop, hurry } = watch()
    expect(stop.aborted).toBe(false)
    source.emit(event)
    await whenAborted(stop)
    expect(hurry.aborted).toBe(false)
  })

  it('takes the echoes of one Ctrl-C for one, and a later one as hurry', () => {
    const { source, clock, hurry } = watch()
    source.emit('SIGINT')
    clock.nowMs += 400
    source.emit('SIGINT')
    expect(hurry.aborted).toBe(false)
    clock.nowMs += 200
    source.emit('SIGINT')
    expect(hurry.aborted).toBe(true)
  })
})
