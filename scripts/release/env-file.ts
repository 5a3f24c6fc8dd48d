/**
 * `NAME=value` lines as systemd, docker and Node read them alike. They quote and expand in
 * different ways, so a value that any of them would change is refused.
 */
import { CliError } from '../lib/cli-error.ts'
import type { SecretName, Setting } from './setting.ts'

const SAFE_VALUE = /^[A-Za-z0-9_./:@%+=,~?&-]+$/

export interface EnvValue {
  readonly name: string
  readonly value: string
  readonly why: string
}

/** Throws `usage` for a value that needs quotes. */
export function formatEnvFile(head: readonly string[], values: readonly EnvValue[]): string {
  const lines = values.flatMap(({ name, value, why }) => {
    if (!SAFE_VALUE.test(value)) {
      const fix = 'Letters, digits and _./:@%+=,~?&- are read alike everywhere.'
      throw new CliError('usage', `${name} would need quotes in an environment file`, fix)
    }
    return [`# ${why}`, `${name}=${value}`]
  })
  return `${[...head.map((line) => `# ${line}`), ...lines].join('\n')}\n`
}

export function formatSettings(title: string, settings: readonly Setting[]): string {
  return formatEnvFile([`${title} No secret is in here.`], settings)
}

/** For people: which secrets a service asks for, and what makes them. */
export function formatSecretNames(secrets: readonly SecretName[]): string[] {
  return secrets.map(({ name, why }) => `  ${name}: ${why}`)
}
