/**
 * `npm run audit [-- --json]`: known faults of the locked packages, as the registry's advisory
 * service has them. Exit code 1 = one that is high or critical; 7 = this registry has no such
 * service, so that nothing was found out: another registry's is asked with `--registry URL`.
 */
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { CliError } from '../lib/cli-error.ts'
import { readLockedPackages } from './locked-packages.ts'
import { runNpm, type ToolOutcome } from './npm-tool.ts'

const USAGE = 'npm run audit -- [--json] [--registry URL]'
const SEVERITIES = ['critical', 'high', 'moderate', 'low', 'info'] as const
type Severity = (typeof SEVERITIES)[number]
/** From which on a release waits. */
const SERIOUS: readonly Severity[] = ['critical', 'high']

const answer = z.object({
  vulnerabilities: z.record(
    z.string(),
    z.looseObject({ severity: z.enum(SEVERITIES), via: z.array(z.unknown()) }),
  ),
})
/** What npm says where the service refuses. */
const refusal = z.object({ message: z.string() })
const advisory = z.object({ title: z.string(), url: z.string() })

export interface Finding {
  readonly package: string
  readonly severity: Severity
  /** Whether it comes with `npm start`. */
  readonly isInProduct: boolean
  readonly advisories: readonly string[]
}

/** Worst first. Throws CliError `missing_prerequisite` where no service answered. */
export function readAudit(
  { stdout, stderr }: Pick<ToolOutcome, 'stdout' | 'stderr'>,
  product: ReadonlySet<string>,
): Finding[] {
  const told = parseJson(stdout)
  const parsed = answer.safeParse(told)
  if (!parsed.success) {
    const reason = refusal.safeParse(told).data?.message ?? stderr.trim().split('\n').at(-1)
    throw new CliError(
      'missing_prerequisite',
      `the registry answered no audit, so nothing is known: ${reason || 'no answer'}`,
      'Ask one that has advisories: npm run audit -- --registry URL',
    )
  }
  return Object.entries(parsed.data.vulnerabilities)
    .map(([name, { severity, via }]) => ({
      package: name,
      severity,
      isInProduct: product.has(name),
      advisories: via.flatMap((one) => {
        const known = advisory.safeParse(one)
        return known.success ? [`${known.data.title} (${known.data.url})`] : []
      }),
    }))
    .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity))
}

export function isSerious({ severity }: Finding): boolean {
  return SERIOUS.includes(severity)
}

export function runAudit(root: string, args: readonly string[]): number {
  const { isJson, registry } = parse(args)
  const product = readLockedPackages(root).filter(({ isDevelopment }) => !isDevelopment)
  const outcome = runNpm(root, [
    ...['audit', '--json', '--package-lock-only'],
    ...(registry === undefined ? [] : ['--registry', registry]),
  ])
  const findings = readAudit(outcome, new Set(product.map(({ name }) => name)))
  process.stdout.write(isJson ? `${JSON.stringify(findings)}\n` : formatFindings(findings))
  return findings.some(isSerious) ? 1 : 0
}

function formatFindings(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'no known fault\n'
  return findings
    .map(({ package: name, severity, isInProduct, advisories }) => {
      const where = isInProduct ? 'product' : 'tools'
      return `${severity.padEnd(8)}  ${where.padEnd(7)}  ${name}: ${advisories.join('; ')}\n`
    })
    .join('')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function parse(args: readonly string[]): { isJson: boolean; registry: string | undefined } {
  const options = { json: { type: 'boolean' }, registry: { type: 'string' } } as const
  try {
    const { values } = parseArgs({ args: [...args], options })
    return { isJson: values.json ?? false, registry: values.registry }
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
}
