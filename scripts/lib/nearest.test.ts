import { describe, expect, it } from 'vitest'
import { nearest } from './nearest.ts'

const COMMANDS = ['deploy', 'doctor', 'model ls', 'model rm', 'model rollback', 'tenant create']

describe('nearest', () => {
  it.each([
    ['depoly', 'deploy'],
    ['docter', 'doctor'],
    ['Deploy', 'deploy'],
    ['model rollbakc', 'model rollback'],
    ['model delete', 'model rm'],
    ['model list', 'model ls'],
    ['tenant add', 'tenant create'],
  ])('takes %s for %s', (typed, meant) => {
    expect(nearest(typed, COMMANDS)).toBe(meant)
  })

  it.each(['frobnicate', 'x', 'doc', ''])('names nothing for %j', (typed) => {
    expect(nearest(typed, COMMANDS)).toBeNull()
  })
})
