/** `npm run licences`: writes `docs/licences.md` anew. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatLicenceList } from './licence-list.ts'
import { readLockedPackages, readRequirements } from './locked-packages.ts'

export const LICENCE_LIST: string = join('docs', 'licences.md')
export const TEST_REQUIREMENTS: string = join('test', 'requirements.txt')

/** As the tree stands now. */
export function currentLicenceList(root: string): string {
  return formatLicenceList(readLockedPackages(root), readRequirements(root, TEST_REQUIREMENTS))
}

export function writeLicenceList(root: string, note: (text: string) => void): number {
  writeFileSync(join(root, LICENCE_LIST), currentLicenceList(root))
  note(`wrote ${LICENCE_LIST}`)
  return 0
}
