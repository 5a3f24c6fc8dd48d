/** The C++ kernels of every instruction set this machine has, against float64 loops. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { NATIVE_PATHS } from '../paths.ts'

it('agrees with float64 loops for every slot popularity and rank', async () => {
  const { stdout } = await promisify(execFile)(NATIVE_PATHS.kernelsTestPath)
  expect(stdout).toMatch(/^[1-9] kernel sets, 0 failures/)
})
