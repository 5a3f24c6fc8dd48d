/**
 * What is installed from registries: the packages of package-lock.json and of the requirements
 * files of Python, as typed values. Nothing is asked over a network.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

export interface LockedPackage {
  readonly name: string
  readonly version: string
  /** SRI text; null = npm would take whatever comes. */
  readonly integrity: string | null
  /** SPDX expression, as the package says. */
  readonly license: string
  /** false = comes with `npm start`; true = with the tests and tools alone. */
  readonly isDevelopment: boolean
  readonly hasInstallScript: boolean
  /** Where it comes from when that is not a registry: git, a file, a URL. */
  readonly otherSource: string | null
}

const lockFile = z.object({
  lockfileVersion: z.literal(3),
  packages: z.record(
    z.string(),
    z.object({
      version: z.string(),
      integrity: z.string().optional(),
      license: z.string().default('(none)'),
      dev: z.boolean().default(false),
      hasInstallScript: z.boolean().default(false),
      resolved: z.string().optional(),
      link: z.boolean().default(false),
    }),
  ),
})

/** In the order of names. Throws where the lock file is not one of npm's third form. */
export function readLockedPackages(root: string): LockedPackage[] {
  const { packages } = lockFile.parse(readJson(root, 'package-lock.json'))
  return Object.entries(packages)
    .filter(([path]) => path !== '')
    .map(([path, entry]) => ({
      name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length),
      version: entry.version,
      integrity: entry.integrity ?? null,
      license: entry.license,
      isDevelopment: entry.dev,
      hasInstallScript: entry.hasInstallScript,
      otherSource: entry.link ? 'a link' : (entry.resolved ?? null),
    }))
    .sort((a, b) => compare(a.name, b.name) || compare(a.version, b.version))
}

const ranges = z.record(z.string(), z.string()).default({})
const manifest = z.looseObject({
  dependencies: ranges,
  devDependencies: ranges,
  optionalDependencies: ranges,
  allowScripts: z.record(z.string(), z.boolean()).default({}),
})

export function readManifest(root: string): z.infer<typeof manifest> {
  return manifest.parse(readJson(root, 'package.json'))
}

export interface PinnedRequirement {
  readonly name: string
  readonly version: string
}

/** Throws for a line that is not `name==version`. */
export function readRequirements(root: string, path: string): PinnedRequirement[] {
  const lines = readFileSync(join(root, path), 'utf8').split('\n')
  return lines
    .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
    .filter((line) => line !== '')
    .map((line) => {
      const [, name, version] = /^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)$/.exec(line) ?? []
      if (name === undefined || version === undefined) {
        throw new Error(`${path}: not pinned to one version: ${line}`)
      }
      return { name, version }
    })
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

function readJson(root: string, path: string): unknown {
  return JSON.parse(readFileSync(join(root, path), 'utf8'))
}
