import { describe, expect, it } from 'vitest'
import { billableUsage } from './usage-event.ts'

const totals = (promptRows: number, completionTokens: number, cachedPromptTokens = 0) => ({
  promptRows,
  completionTokens,
  cachedPromptTokens,
  gpuUs: 1,
})

describe('billableUsage', () => {
  it.each(['stop', 'length'] as const)('bills all of a request that ended with %s', (finish) => {
    expect(billableUsage(finish, totals(9, 4, 3))).toEqual({
      prompt_tokens: 9,
      cached_prompt_tokens: 3,
      completion_tokens: 4,
    })
  })

  it('bills nothing for an error before the first token', () => {
    expect(billableUsage('error', totals(9, 0))).toBeNull()
  })

  it('bills what was delivered before a later error', () => {
    expect(billableUsage('error', totals(9, 2))).toMatchObject({ completion_tokens: 2 })
  })

  it('bills an aborted request for the rows that ran, and nothing if none did', () => {
    expect(billableUsage('abort', totals(5, 0))).toMatchObject({ prompt_tokens: 5 })
    expect(billableUsage('abort', totals(0, 0))).toBeNull()
  })

  it('never bills more cached tokens than prompt tokens', () => {
    expect(billableUsage('abort', totals(2, 0, 5))).toMatchObject({ cached_prompt_tokens: 2 })
  })
})
