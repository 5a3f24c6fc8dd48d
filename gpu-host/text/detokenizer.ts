/**
 * Token bytes → whole UTF-8 characters. Bytes of a character that is not complete yet are held back
 * until its last byte arrives; bytes that can never be UTF-8 become U+FFFD. Nothing is lost,
 * nothing is shown twice.
 */
export class Detokenizer {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })

  /** Characters that `bytes` completes; may be empty. */
  push(bytes: Uint8Array): string {
    return this.#decoder.decode(bytes, { stream: true })
  }

  /** What is held back at the end of the stream: U+FFFD for an unfinished character, or nothing. */
  flush(): string {
    return this.#decoder.decode()
  }
}

/** Whether `bytes` ends with the beginning of a UTF-8 character that it does not complete. */
export function endsInsideCharacter(bytes: Uint8Array): boolean {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) return false
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2)
  }
  return false
}
