import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { callerPath } from './caller-path.ts'

const projectRoot = '/checkout'
const npm = { INIT_CWD: '/home/me', npm_package_json: '/checkout/package.json' }

describe('callerPath', () => {
  it.each([
    ['in a folder from which npm was called', npm, '../a.csv', '/home/a.csv'],
    ['absolute', npm, '/tmp/a.csv', '/tmp/a.csv'],
    ['without npm', {}, 'a.csv', join(process.cwd(), 'a.csv')],
    [
      'in a script of another project',
      { ...npm, npm_package_json: '/other/package.json' },
      'a.csv',
      join(process.cwd(), 'a.csv'),
    ],
  ])('is what was meant: %s', (_, env, path, expected) => {
    expect(callerPath({ env, projectRoot }, path)).toBe(expected)
  })
})
