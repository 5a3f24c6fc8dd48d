/** Tiers in a temporary directory, for an engine that is fake but for the tiny base's shape. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EngineLimits } from '../../../engine.ts'
import { FakeEngine } from '../../../test/support/fake-engine.ts'
import { PeftIntake } from '../../adapter-intake.ts'
import { DiskTier } from '../../disk-tier.ts'
import { DirectoryStore } from '../../store-tier.ts'
import { VECTOR_BASE, VECTOR_RANK_MAX } from './vectors.ts'

export interface TestTiers {
  readonly directory: string
  readonly engine: FakeEngine
  readonly store: DirectoryStore
  readonly disk: DiskTier
  readonly intake: PeftIntake
  readonly logs: string[]
  /** A fresh, empty directory. */
  createDirectory(): string
  /** Paths of all files under a part of the directory. */
  filesIn(part: 'store' | 'disk'): string[]
  remove(): void
}

export async function createTiers(
  options: { readonly limits?: Partial<EngineLimits>; readonly diskBytesMax?: number } = {},
): Promise<TestTiers> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-tiers-'))
  const logs: string[] = []
  const log = (_level: string, message: string): void => {
    logs.push(message)
  }
  const engine = new FakeEngine({
    info: VECTOR_BASE,
    limits: { rankMax: VECTOR_RANK_MAX, ...options.limits },
  })
  const store = new DirectoryStore(join(directory, 'store'))
  const disk = await DiskTier.open({
    directory: join(directory, 'disk'),
    bytesMax: options.diskBytesMax ?? 1e9,
    log,
  })
  return {
    directory,
    engine,
    store,
    disk,
    logs,
    intake: new PeftIntake({ engine, store, disk, log }),
    createDirectory: () => mkdtempSync(join(directory, 'upload-')),
    filesIn(part) {
      const root = join(directory, part)
      mkdirSync(root, { recursive: true })
      return readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}
