/**
 * One project per folder; `npm test` runs them all. `e2e` starts real processes on the real base
 * model, so it runs its files one after the other, when all others are done. Everything else runs
 * on tiny generated models, two files at a time: most wait for a timer, a disk or a process.
 */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    projects: [
      { extends: true, test: { name: 'edge', include: ['edge/**/*.test.ts'] } },
      { extends: true, test: { name: 'gpu-host', include: ['gpu-host/**/*.test.ts'] } },
      { extends: true, test: { name: 'db', include: ['db/**/*.test.ts'] } },
      { extends: true, test: { name: 'native', include: ['native/**/*.test.ts'] } },
      {
        extends: true,
        test: { name: 'scripts', include: ['scripts/**/*.test.ts', 'bench/**/*.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 600_000,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
