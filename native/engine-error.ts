/** The engine's one error class. `code` is stable: match on it, never on the class or the text. */
export const ENGINE_ERROR_CODES = [
  'invalid_argument',
  'invalid_grammar',
  'grammars_full',
  'model_not_found',
  'model_invalid',
  'unsupported_architecture',
  'out_of_memory',
  'pack_mismatch',
  'slot_empty',
  'slot_in_use',
  'step_in_flight',
  'backend_failed',
  'engine_closed',
  'engine_not_built',
] as const
export type EngineErrorCode = (typeof ENGINE_ERROR_CODES)[number]

export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: EngineErrorCode

  constructor(code: EngineErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export function invalidArgument(message: string): EngineError {
  return new EngineError('invalid_argument', message)
}
