/** What went wrong, in its own innermost words: fetch and database drivers wrap them. */
export function causeText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause !== undefined) return causeText(error.cause)
  // Several addresses were tried, each in vain: such an error has a code and no words.
  if (error.message === '' && 'code' in error) return String(error.code)
  return error.message || error.name
}
