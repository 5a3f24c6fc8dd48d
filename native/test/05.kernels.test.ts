/** The C++ tests of what the CPU runs on, for every instruction set that this machine has. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { NATIVE_PATHS } from '../paths.ts'

const run = promisify(execFile)

describe('the kernels', () => {
  it('agree with float64 loops for every slot popularity and rank', async () => {
    const { stdout } = await run(NATIVE_PATHS.kernelsTestPath)
    expect(stdout).toMatch(/^[1-9] kernel sets, 0 failures/)
  })
})

describe("the CPU's executor", () => {
  it('multiplies every weight type, alone as in company, and runs every task once, in order', async () => {
    const { stdout } = await run(NATIVE_PATHS.cpuTestPath)
    expect(stdout).toBe('0 failures\n')
  })
})
