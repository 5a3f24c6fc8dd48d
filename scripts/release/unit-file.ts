/** A systemd unit as data → text. Values cannot break out of their line, nor be specifiers. */
export interface UnitSection {
  readonly name: 'Unit' | 'Service' | 'Install'
  readonly groups: readonly DirectiveGroup[]
}

/** Directives that are there for one reason. */
export interface DirectiveGroup {
  readonly why: string
  readonly directives: readonly Directive[]
}

/** Name and value; a name may come several times. */
export type Directive = readonly [name: string, value: string]

export function formatUnit(head: readonly string[], sections: readonly UnitSection[]): string {
  const blocks = sections.map(({ name, groups }) =>
    [`[${name}]`, ...groups.flatMap(formatGroup)].join('\n'),
  )
  return `${[head.map((line) => `# ${line}`).join('\n'), ...blocks].join('\n\n')}\n`
}

function formatGroup({ why, directives }: DirectiveGroup): string[] {
  return [...why.split('\n').map((line) => `# ${line}`), ...directives.map(formatDirective)]
}

/** Throws an Error for a line end. */
function formatDirective([name, value]: Directive): string {
  if (/[\r\n]/.test(value)) throw new Error(`${name} of a unit has a line end`)
  return `${name}=${value.replaceAll('%', '%%')}`
}
