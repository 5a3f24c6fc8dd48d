import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { plant } from './planted-bug.ts'
import { PLANTED_BUGS } from './planted-bugs.ts'

const root = dirname(dirname(import.meta.dirname))

describe('planted bugs', () => {
  it.each(PLANTED_BUGS)('$name still has its place in the tree, and tests', (bug) => {
    const sound = readFileSync(join(root, bug.file), 'utf8')
    expect(plant(sound, bug)).not.toBe(sound)
    for (const path of bug.tests) expect(existsSync(join(root, path)), path).toBe(true)
  })

  it('have names of their own', () => {
    expect(new Set(PLANTED_BUGS.map(({ name }) => name)).size).toBe(PLANTED_BUGS.length)
  })

  it('are refused where their place is gone, or not the only one', () => {
    const bug = {
      ...PLANTED_BUGS[0],
      name: 'x',
      file: 'f',
      from: 'ab',
      to: 'c',
      tests: [],
      harm: '',
    }
    expect(plant('1 ab 2', bug)).toBe('1 c 2')
    expect(() => plant('1 2', bug)).toThrow('0 times')
    expect(() => plant('ab ab', bug)).toThrow('2 times')
  })
})
