import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { joinPieces } from './build.ts'
import { importedPackages } from './pack.ts'
import { ROOT, saveResult } from './run.ts'

let out = ''
beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'nozzle-gpu-'))
})
afterEach(() => rmSync(out, { recursive: true, force: true }))

function acceptance(...args: string[]) {
  const script = join(ROOT, 'scripts', 'gpu-acceptance')
  return spawnSync(script, [...args, '--out', out], { encoding: 'utf8' })
}

describe('gpu-acceptance', () => {
  it.each([
    ['no such stage', ['melt']],
    ['a device that it does not know', ['report', '--device', 'abacus']],
    ['no time at all', ['report', '--minutes', '0']],
    ['an archive without a name', ['pack']],
  ])('refuses %s, with its usage', (_, args) => {
    const { status, stderr } = acceptance(...args)
    expect(status).toBe(2)
    expect(stderr).toMatch(/usage: scripts\/gpu-acceptance/)
  })

  it('reports what was measured, and says of the rest that it was not', () => {
    const run = { device: 'cpu', shape: 'tiny-f16', out, rounds: 1 } as const
    saveResult(run, 'mix', { ratio_base: 0.97 })
    saveResult(run, 'parity', { types: { F16: { holds: false }, Q8_0: { holds: true } } })
    const { status, stdout } = acceptance('report', '--device', 'cpu', '--shape', 'tiny')
    expect(status).toBe(0)
    expect(stdout).toContain('| 16 adapters ÷ base | ≥ 0.90 | 0.97 | not judged |')
    expect(stdout).toContain('| RAM → slot, p50 ms | ≤ 5 | not measured | not judged |')
    const { targets } = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'))
    const isMet = Object.fromEntries(
      targets.map(({ what, isMet }: { what: string; isMet: boolean }) => [what, isMet]),
    )
    expect(isMet).toMatchObject({
      'parity with the CPU, F16': false,
      'parity with the CPU, Q8_0': true,
      '16 adapters ÷ base': true,
      'slots resident': false,
    })
  })

  it('packs the packages that its modules import, wherever they are', () => {
    const packages = importedPackages()
    // Through gpu-host/adapters/pack-file.ts and gpu-host/telemetry/metrics.ts.
    expect(packages).toEqual(expect.arrayContaining(['zod', 'prom-client']))
    for (const name of packages) {
      expect(existsSync(join(ROOT, 'node_modules', name)), name).toBe(true)
    }
  })

  it('joins a library that was carried in pieces', () => {
    const library = Buffer.from('any bytes, '.repeat(1000))
    const { stdout } = spawnSync('xz', ['-c'], { input: library })
    const pieces = join(out, 'pieces')
    mkdirSync(pieces)
    writeFileSync(join(pieces, 'cuda.01'), stdout.subarray(40))
    writeFileSync(join(pieces, 'cuda.00'), stdout.subarray(0, 40))
    const target = join(out, 'lib', 'libggml-cuda.so')
    joinPieces(pieces, target)
    expect(readFileSync(target).equals(library)).toBe(true)
    expect(() => joinPieces(out, target)).toThrow(/no pieces/)
  })
})
