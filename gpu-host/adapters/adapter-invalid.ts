/**
 * How an adapter is refused: always `adapter_invalid`, with a message that names the file, the
 * field or tensor, and what to change. Names come from the tenant's own file, so they are shortened
 * and escaped before they are printed.
 */
import { HostError } from '../errors.ts'

export const ADAPTER_FILES = {
  config: 'adapter_config.json',
  weights: 'adapter_model.safetensors',
} as const
export type AdapterFile = keyof typeof ADAPTER_FILES

const NAME_LENGTH_MAX = 160

/** `problem` follows the field's name in the sentence: `is true: DoRA is not served; …`. */
export function adapterInvalid(file: AdapterFile, field: string, problem: string): HostError {
  // What has no name is quoted, or nothing would stand there.
  const name = toPrintable(field) || '""'
  return new HostError('adapter_invalid', `${ADAPTER_FILES[file]}: ${name} ${problem}`, {
    param: name,
  })
}

/** Text of a file as it may stand in a message: one line, ASCII, bounded. */
export function toPrintable(text: string): string {
  const escaped = text.replace(/[^\x20-\x7e]/g, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(4, '0')
    return `\\u${code}`
  })
  return escaped.length <= NAME_LENGTH_MAX ? escaped : `${escaped.slice(0, NAME_LENGTH_MAX - 1)}…`
}

/** A value of a file as it may stand in a message. */
export function toPrintableJson(value: unknown): string {
  return toPrintable(JSON.stringify(value) ?? 'undefined')
}
