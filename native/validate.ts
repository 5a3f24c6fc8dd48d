/** Argument checks of the engine's facade. Each throws invalid_argument naming the argument. */
import { invalidArgument } from './engine-error.ts'

export function requireInteger(value: number, name: string, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return
  throw invalidArgument(`${name} must be an integer from ${min} to ${max}, got ${value}`)
}

export function requireText(value: string, name: string): void {
  if (typeof value === 'string' && value.length > 0) return
  throw invalidArgument(`${name} must be a non-empty string`)
}

export function checkEqualLengths(batch: {
  readonly tokens: Int32Array
  readonly positions: Int32Array
  readonly sequences: Int32Array
  readonly slots: Int32Array
  readonly outputs: Uint8Array
}): void {
  const { tokens, positions, sequences, slots, outputs } = batch
  for (const [name, array] of Object.entries({ tokens, positions, sequences, slots })) {
    if (!(array instanceof Int32Array)) throw invalidArgument(`${name} must be an Int32Array`)
    if (array.length !== tokens.length) {
      throw invalidArgument(`${name} has ${array.length} rows, tokens has ${tokens.length}`)
    }
  }
  if (!(outputs instanceof Uint8Array)) throw invalidArgument('outputs must be a Uint8Array')
  if (outputs.length !== tokens.length) {
    throw invalidArgument(`outputs has ${outputs.length} rows, tokens has ${tokens.length}`)
  }
}
