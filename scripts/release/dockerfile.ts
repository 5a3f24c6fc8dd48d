/** A Dockerfile as data → text. Commands that run at start are argument lists, without a shell. */
export type Instruction =
  | { readonly kind: 'FROM'; readonly image: string; readonly as?: string; readonly why: string }
  | { readonly kind: 'WORKDIR' | 'USER'; readonly value: string; readonly why?: string }
  | ({ readonly kind: 'COPY'; readonly paths: readonly string[]; readonly from?: string } & Why)
  | ({ readonly kind: 'RUN'; readonly steps: readonly string[]; readonly ignore?: string } & Why)
  | ({ readonly kind: 'ENV'; readonly values: Readonly<Record<string, string>> } & Why)
  | ({ readonly kind: 'EXPOSE'; readonly port: number } & Why)
  | ({ readonly kind: 'VOLUME' | 'CMD'; readonly args: readonly string[] } & Why)
  | ({ readonly kind: 'HEALTHCHECK'; readonly everyS: number; readonly startS: number } & Why & {
        readonly args: readonly string[]
      })

interface Why {
  readonly why?: string
}

export function formatDockerfile(
  head: readonly string[],
  instructions: readonly Instruction[],
): string {
  const blocks = instructions.map((instruction) => {
    const why = instruction.why?.split('\n').map((line) => `# ${line}\n`) ?? []
    return `${why.join('')}${formatInstruction(instruction)}`
  })
  return `${[head.map((line) => `# ${line}`).join('\n'), ...blocks].join('\n\n')}\n`
}

function formatInstruction(step: Instruction): string {
  switch (step.kind) {
    case 'FROM':
      return `FROM ${step.image}${step.as === undefined ? '' : ` AS ${step.as}`}`
    case 'WORKDIR':
    case 'USER':
      return `${step.kind} ${step.value}`
    case 'COPY':
      return `COPY ${step.from === undefined ? '' : `--from=${step.from} `}${step.paths.join(' ')}`
    case 'RUN': {
      const ignore = step.ignore === undefined ? '' : `# hadolint ignore=${step.ignore}\n`
      return `${ignore}RUN ${step.steps.join(' \\\n && ')}`
    }
    case 'ENV':
      return `ENV ${Object.entries(step.values)
        .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
        .join(' \\\n    ')}`
    case 'EXPOSE':
      return `EXPOSE ${step.port}`
    case 'VOLUME':
    case 'CMD':
      return `${step.kind} ${JSON.stringify(step.args)}`
    case 'HEALTHCHECK':
      return (
        `HEALTHCHECK --interval=${step.everyS}s --timeout=5s --start-period=${step.startS}s \\\n` +
        `    CMD ${JSON.stringify(step.args)}`
      )
  }
}
