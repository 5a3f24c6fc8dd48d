import { describe, expect, it } from 'vitest'
import { toDrawError } from './sequence.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const drawn = { sequence: 0, token: 5, isNonFinite: false, isStuck: false, logprob: null, top: [] }

describe('toDrawError', () => {
  it('blames the adapter for logits that are not finite, and the host where there is none', () => {
    const broken = { ...drawn, isNonFinite: true }
    expect(toDrawError(broken, DIGEST)).toMatchObject({ code: 'logits_not_finite', param: 'model' })
    expect(toDrawError(broken, null)).toMatchObject({ code: 'engine_failed' })
  })

  it('blames the grammar for a draw that is stuck, and nobody for one that is not', () => {
    const stuck = { ...drawn, isStuck: true }
    expect(toDrawError(stuck, DIGEST)).toMatchObject({ code: 'invalid_request', param: 'grammar' })
    expect(toDrawError(drawn, DIGEST)).toBeNull()
  })
})
