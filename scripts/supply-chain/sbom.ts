/**
 * `npm run sbom [-- --out FILE] [--with-development]`: what a release is made of, in CycloneDX 1.5,
 * from the lock file alone; npm's own list and the parts that no lock file names. To stdout unless
 * a file is named.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { CliError } from '../lib/cli-error.ts'
import { CARRIED_PARTS } from './licences.ts'
import { readLockedPackages } from './locked-packages.ts'
import { runNpm } from './npm-tool.ts'

const USAGE = 'npm run sbom -- [--out FILE] [--with-development]'

const component = z.looseObject({
  'bom-ref': z.string(),
  type: z.string(),
  name: z.string(),
  version: z.string().optional(),
  purl: z.string().optional(),
  hashes: z.array(z.object({ alg: z.string(), content: z.string() })).optional(),
  licenses: z.array(z.looseObject({})).optional(),
})
/** The part of CycloneDX 1.5 that is read here; what else npm writes stays as it is. */
export const billOfMaterials = z.looseObject({
  bomFormat: z.literal('CycloneDX'),
  specVersion: z.string(),
  metadata: z.looseObject({ component }),
  serialNumber: z.string().regex(/^urn:uuid:[0-9a-f-]{36}$/),
  components: z.array(component),
  dependencies: z.array(z.looseObject({ ref: z.string(), dependsOn: z.array(z.string()) })),
})
export type BillOfMaterials = z.infer<typeof billOfMaterials>

/** Throws CliError where npm cannot make the list. */
export function createSbom(root: string, withDevelopment: boolean): BillOfMaterials {
  const format = ['--sbom-format', 'cyclonedx', '--sbom-type', 'application']
  const { exitCode, stdout, stderr } = runNpm(root, ['sbom', ...format, '--package-lock-only'])
  if (exitCode !== 0) throw new CliError('unexpected', `npm sbom failed: ${stderr.trim()}`)
  const made = billOfMaterials.parse(JSON.parse(stdout))
  const whole = withDevelopment ? made : withoutTools(made, root)
  return { ...whole, components: [...whole.components, ...CARRIED_PARTS.map(toComponent)] }
}

/** npm's own `--omit dev` would leave out packages of the product that a tool needs, too. */
function withoutTools(made: BillOfMaterials, root: string): BillOfMaterials {
  const locked = readLockedPackages(root)
  const product = locked.filter(({ isDevelopment }) => !isDevelopment)
  const kept = new Set(product.map(({ name, version }) => `${name}@${version}`))
  kept.add(made.metadata.component['bom-ref'])
  const isKept = (ref: string): boolean => kept.has(ref)
  return {
    ...made,
    components: made.components.filter((one) => isKept(one['bom-ref'])),
    dependencies: made.dependencies
      .filter(({ ref }) => isKept(ref))
      .map((one) => ({ ...one, dependsOn: one.dependsOn.filter(isKept) })),
  }
}

function toComponent({ name, licence, comesWith }: (typeof CARRIED_PARTS)[number]) {
  return {
    'bom-ref': name,
    type: 'library',
    name,
    description: comesWith,
    licenses: [{ license: { name: licence } }],
  }
}

export function runSbom(root: string, args: readonly string[]): number {
  const { out, withDevelopment } = parse(args)
  const text = `${JSON.stringify(createSbom(root, withDevelopment), null, 2)}\n`
  if (out === undefined) process.stdout.write(text)
  else writeFileSync(out, text)
  return 0
}

function parse(args: readonly string[]): { out: string | undefined; withDevelopment: boolean } {
  const options = { out: { type: 'string' }, 'with-development': { type: 'boolean' } } as const
  try {
    const { values } = parseArgs({ args: [...args], options })
    return { out: values.out, withDevelopment: values['with-development'] ?? false }
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
}
