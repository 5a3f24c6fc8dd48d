/** Amounts of US dollars as people give them to flags. */
import { parseUsd, parseUsdPerMillion } from '#db/money.ts'
import { CliError } from './cli-error.ts'

/** Pico-USD. Throws a `usage` error; `more` adds to what the flag takes. */
export function readUsd(flag: string, text: string, more = ''): bigint {
  return parseUsd(text) ?? refuse(flag, text, `US dollars, such as 50 or 0.25${more}`)
}

/** Pico-USD per token. Throws a `usage` error. */
export function readUsdPerMillion(flag: string, text: string): bigint {
  const form = 'US dollars per million tokens with at most six decimals, such as 0.10'
  return parseUsdPerMillion(text) ?? refuse(flag, text, form)
}

function refuse(flag: string, text: string, form: string): never {
  const [, sign, fraction = ''] = /^(-?)\d+(?:\.(\d+))?$/.exec(text) ?? []
  if (sign === '-') throw new CliError('usage', `--${flag} must not be negative, as "${text}" is`)
  // Written as it should be, and with decimals that fit: it is the size that does not.
  const isPlain = sign !== undefined && fraction.length <= 6
  if (isPlain) throw new CliError('usage', `--${flag} is too large: "${text}"`)
  throw new CliError('usage', `--${flag} must be ${form}, not "${text}"`)
}
