import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type SlotPin, SlotTable } from './slot-table.ts'

/** Evicts when it must, as the pool does. */
function load(table: SlotTable, digest: string): SlotPin | null {
  const slot = table.pickFree()
  if (slot === null) return null
  if (table.stateOf(slot) === 'resident') {
    table.startEvicting(slot)
    table.finishEvicting(slot)
  }
  return table.startLoading(slot, digest)
}

describe('slot table', () => {
  it('takes absent slots first, then the least recently used unpinned one', () => {
    const table = new SlotTable(2)
    for (const digest of ['a', 'b']) {
      const pin = load(table, digest)
      if (pin === null) throw new Error('no slot')
      table.finishLoading(pin.slot)
      table.unpin(pin)
    }
    const again = table.pin('a')
    if (again === null) throw new Error('not resident')
    table.unpin(again)
    load(table, 'c')
    expect(table.isResident('a')).toBe(true)
    expect(table.isResident('b')).toBe(false)
  })

  it('throws on a transition that the diagram lacks', () => {
    const table = new SlotTable(1)
    expect(() => table.finishLoading(1)).toThrow(/absent/)
    expect(() => table.startEvicting(1)).toThrow(/absent/)
    const pin = table.startLoading(1, 'a')
    expect(() => table.startLoading(1, 'b')).toThrow(/loading/)
    table.finishLoading(1)
    expect(() => table.startEvicting(1)).toThrow(/pinned/)
    expect(() => table.fail(1)).toThrow(/resident/)
    table.unpin(pin)
    expect(() => table.unpin(pin)).toThrow(/twice/)
    expect(() => table.stateOf(2)).toThrow(/no slot 2/)
    expect(() => table.stateOf(0)).toThrow(/no slot 0/)
  })

  it('ignores a pin of an earlier load', () => {
    const table = new SlotTable(1)
    const pin = table.startLoading(1, 'a')
    table.fail(1)
    expect(table.unpin(pin)).toBe(false)
    table.finishFailure(1)
    const next = table.startLoading(1, 'b')
    table.finishLoading(1)
    expect(table.unpin(pin)).toBe(false)
    expect(table.pickFree()).toBeNull()
    expect(table.unpin(next)).toBe(true)
  })

  it('knows a pin from one of an earlier load, of the same adapter too', () => {
    const table = new SlotTable(1)
    const first = table.startLoading(1, 'a')
    expect(table.holds(first, 'a')).toBe(false)
    table.finishLoading(1)
    expect(table.holds(first, 'a')).toBe(true)
    expect(table.holds(first, 'b')).toBe(false)
    table.unpin(first)
    expect(table.holds(first, 'a')).toBe(false)
    table.startEvicting(1)
    table.finishEvicting(1)
    const second = table.startLoading(1, 'a')
    table.finishLoading(1)
    expect(table.holds(first, 'a')).toBe(false)
    expect(table.holds(second, 'a')).toBe(true)
  })

  it('gives out no generation twice: a slot that has used them up takes no load', () => {
    const table = new SlotTable(1, Number.MAX_SAFE_INTEGER - 2)
    const given = new Set<number>()
    for (let load = 0; load < 2; load += 1) {
      const pin = table.startLoading(1, 'a')
      given.add(pin.generation)
      table.fail(1)
      table.finishFailure(1)
    }
    expect(given.size).toBe(2)
    expect(() => table.startLoading(1, 'a')).toThrow('worn out')
  })

  it('never gives up a pinned slot, and never has an adapter in two', () => {
    const step = fc.record({
      action: fc.constantFrom('use', 'finish', 'fail', 'unpin'),
      digest: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      pick: fc.nat(20),
    })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 80 }),
        (slots, steps) => {
          const table = new SlotTable(slots)
          const loading = new Map<number, string>()
          const pins: { pin: SlotPin; digest: string }[] = []
          for (const { action, digest, pick } of steps) {
            const [slot] = loading.keys()
            if (action === 'use') {
              const pin = table.pin(digest) ?? load(table, digest)
              if (pin === null) continue
              if (table.stateOf(pin.slot) === 'loading') loading.set(pin.slot, digest)
              pins.push({ pin, digest })
            } else if (action === 'unpin') {
              const [held] = pins.splice(pick % Math.max(1, pins.length), 1)
              if (held !== undefined) table.unpin(held.pin)
            } else if (slot !== undefined) {
              const failed = loading.get(slot)
              loading.delete(slot)
              if (action === 'finish') table.finishLoading(slot)
              else {
                table.fail(slot)
                table.finishFailure(slot)
                for (let i = pins.length - 1; i >= 0; i -= 1) {
                  if (pins[i]?.digest === failed) pins.splice(i, 1)
                }
              }
            }
            const holders = new Map<number, Set<string>>()
            for (const { pin, digest: held } of pins) {
              holders.set(pin.slot, (holders.get(pin.slot) ?? new Set()).add(held))
              const isHeld = table.isResident(held) || table.stateOf(pin.slot) === 'loading'
              if (!isHeld) return false
            }
            if ([...holders.values()].some((digests) => digests.size > 1)) return false
            const residents = table.residents()
            if (new Set(residents).size !== residents.length) return false
          }
          return true
        },
      ),
    )
  })
})
