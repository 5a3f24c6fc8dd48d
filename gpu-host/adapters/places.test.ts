import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Gate } from '../test/support/gate.ts'
import { Places } from './places.ts'

/** Work that notes its turn, then waits for the gate. */
function createQueue(places: Places) {
  const gate = new Gate()
  const order: string[] = []
  const enter = (name: string, claim: { isUrgent: boolean }): Promise<void> =>
    places.run(claim, async () => {
      order.push(name)
      await gate.pass()
    })
  return { gate, order, enter }
}

describe('Places', () => {
  it('run so many at once, the needed before the merely hinted, else in order', async () => {
    const places = new Places(1)
    const { gate, order, enter } = createQueue(places)
    const late = { isUrgent: false }
    const all = [
      enter('first', { isUrgent: false }),
      enter('hint', { isUrgent: false }),
      enter('hint that is needed by now', late),
      enter('needed', { isUrgent: true }),
    ]
    await nextTurn()
    expect(order).toEqual(['first'])
    late.isUrgent = true
    gate.open()
    await Promise.all(all)
    expect(order).toEqual(['first', 'hint that is needed by now', 'needed', 'hint'])
  })

  it('give the place of failed work to the next', async () => {
    const places = new Places(1)
    const failing = places.run({ isUrgent: true }, () => Promise.reject(new Error('no luck')))
    const next = places.run({ isUrgent: true }, async () => 'served')
    await expect(failing).rejects.toThrow('no luck')
    await expect(next).resolves.toBe('served')
    await expect(places.run({ isUrgent: true }, async () => 'and on')).resolves.toBe('and on')
  })

  it('keep the last one for those that are needed', async () => {
    const places = new Places(2)
    const { gate, order, enter } = createQueue(places)
    const promoted = { isUrgent: false }
    const all = [enter('hint', { isUrgent: false }), enter('promoted', promoted)]
    await nextTurn()
    expect(order).toEqual(['hint'])
    promoted.isUrgent = true
    places.fill()
    await nextTurn()
    expect(order).toEqual(['hint', 'promoted'])
    gate.open()
    await Promise.all(all)
  })
})
