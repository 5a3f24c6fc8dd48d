/** `docs/licences.md`: whose work is in the product and in its tests. Pure. */
import { CARRIED_PARTS, isAllowed, PYTHON_LICENCES } from './licences.ts'
import type { LockedPackage, PinnedRequirement } from './locked-packages.ts'

const HEAD = `# Licences of others' work

Written by \`npm run licences\` from \`package-lock.json\`, \`test/requirements.txt\` and
\`scripts/supply-chain/licences.ts\`; a test fails when it is out of date, and when a licence comes
in that \`licences.ts\` does not allow: in the product none but permissive ones. Nozzle itself is
under Apache-2.0.
`

export function formatLicenceList(
  packages: readonly LockedPackage[],
  requirements: readonly PinnedRequirement[],
): string {
  const product = packages.filter(({ isDevelopment }) => !isDevelopment)
  const tools = packages.filter(({ isDevelopment }) => isDevelopment)
  const python = requirements.map(({ name, version }) => ({
    ...{ name, version },
    license: PYTHON_LICENCES[name] ?? '(none)',
  }))
  return [
    HEAD,
    section('In the product', 'Packages that `npm start` installs.', product),
    table(
      'What comes inside, or is fetched',
      'No lock file names these.',
      ['Part', 'Licence', 'Comes with'],
      CARRIED_PARTS.map(({ name, licence, comesWith }) => [name, licence, comesWith]),
    ),
    section('Tools and tests, from npm', 'Not in what runs.', tools),
    section('Tests, from PyPI', 'Not in what runs.', python),
  ].join('\n')
}

/** Packages that may not be here, with the licence that forbids it. */
export function findForbidden(
  packages: readonly Pick<LockedPackage, 'name' | 'license' | 'isDevelopment'>[],
): string[] {
  return packages
    .filter(({ license, isDevelopment }) => !isAllowed(license, isDevelopment))
    .map(({ name, license }) => `${name}: ${license}`)
}

type Named = Pick<LockedPackage, 'name' | 'version' | 'license'>

/** One row a licence, since most have the same few. */
function section(title: string, words: string, packages: readonly Named[]): string {
  const byLicence = new Map<string, Set<string>>()
  for (const { name, version, license } of packages) {
    const names = byLicence.get(license) ?? new Set()
    byLicence.set(license, names.add(`${name} ${version}`))
  }
  const rows = [...byLicence]
    .sort(([, a], [, b]) => b.size - a.size)
    .map(([licence, names]) => [licence, String(names.size), [...names].join(', ')])
  return table(title, words, ['Licence', 'Packages', 'Which'], rows)
}

function table(
  title: string,
  words: string,
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const rule = line(columns.map(() => '---'))
  return `## ${title}\n\n${[words, '', line(columns), rule, ...rows.map(line)].join('\n')}\n`
}
