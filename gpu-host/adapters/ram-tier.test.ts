import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RamTier } from './ram-tier.ts'
import { createImage } from './test/support/images.ts'

describe('RAM tier', () => {
  it('holds, and has pinned, what a plain LRU of the same bound holds', () => {
    const step = fc.record({
      action: fc.constantFrom('get', 'put'),
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      bytes: fc.integer({ min: 1, max: 120 }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const pinned: Uint8Array[] = []
        const tier = new RamTier(100, {
          pin: (payload) => void pinned.push(payload),
          unpin: async (payload) => void pinned.splice(pinned.indexOf(payload), 1),
        })
        let model: { digest: string; bytes: number }[] = []
        for (const { action, name, bytes } of steps) {
          const image = createImage(name, bytes)
          const { digest } = image.manifest
          const known = model.find((entry) => entry.digest === digest)
          model = model.filter((entry) => entry !== known)
          if (action === 'put') {
            tier.put(image)
            if (bytes <= 100) model.push({ digest, bytes })
            while (model.reduce((sum, entry) => sum + entry.bytes, 0) > 100) model.shift()
          } else {
            if ((tier.get(digest) === null) !== (known === undefined)) return false
            if (known !== undefined) model.push(known)
          }
          const held = [...tier.digests()]
          if (held.join() !== model.map((entry) => entry.digest).join()) return false
          const pinnedBytes = pinned.reduce((sum, payload) => sum + payload.length, 0)
          if (pinned.length !== model.length || pinnedBytes !== tier.bytes) return false
          if (tier.bytes !== model.reduce((sum, entry) => sum + entry.bytes, 0)) return false
        }
        return true
      }),
    )
  })

  it('evicts nothing for an adapter that is larger than the tier', () => {
    const tier = new RamTier(100)
    tier.put(createImage('a', 60))
    tier.put(createImage('b', 101))
    expect(tier.bytes).toBe(60)
    expect([...tier.digests()]).toHaveLength(1)
  })
})
