/**
 * Finds the model that a request's body names while the rest of the body is still on its way, so
 * that a cold adapter can be sent for at once. It is no parser: of a body that is not JSON, or that
 * names a model twice, it may find another name than the parser, whose word counts.
 */

/** Beyond it the rest will be here before a hint has done any good. */
const PEEK_BYTES_MAX = 64 * 1024
/** The longest name is 200 characters, each escaped with six. */
const NAME_BYTES_MAX = 1200

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const COMMA = 0x2c
const OPENING = new Set([0x7b, 0x5b])
const CLOSING = new Set([0x7d, 0x5d])

export class ModelPeek {
  #seen = 0
  #depth = 0
  #isInString = false
  #isEscaped = false
  /** Bytes of a string of the outermost object. */
  #text: number[] = []
  /** The key whose value is being read; null while a key is. */
  #key: string | null = null
  #lastText = ''

  /** The name, at most once; null while it is not known. */
  take(bytes: Uint8Array): string | null {
    for (const byte of bytes) {
      this.#seen += 1
      if (this.#seen > PEEK_BYTES_MAX) return null
      if (this.#isInString) this.#readString(byte)
      else this.#readStructure(byte)
      if (this.#key !== 'model' || this.#isInString || byte !== QUOTE || this.#depth !== 1) continue
      this.#seen = PEEK_BYTES_MAX
      return this.#lastText
    }
    return null
  }

  #readString(byte: number): void {
    if (byte === QUOTE && !this.#isEscaped) {
      this.#isInString = false
      if (this.#depth === 1) this.#lastText = decode(this.#text)
      return
    }
    if (this.#depth === 1 && this.#text.length < NAME_BYTES_MAX) this.#text.push(byte)
    this.#isEscaped = byte === BACKSLASH && !this.#isEscaped
  }

  #readStructure(byte: number): void {
    if (byte === QUOTE) {
      this.#isInString = true
      this.#text = []
    } else if (OPENING.has(byte)) this.#depth += 1
    else if (CLOSING.has(byte)) this.#depth -= 1
    else if (this.#depth === 1 && byte === COLON) this.#key = this.#lastText
    else if (this.#depth === 1 && byte === COMMA) this.#key = null
  }
}

/** Of a string that was cut, or whose escapes are none, nothing. */
function decode(bytes: readonly number[]): string {
  try {
    const value: unknown = JSON.parse(`"${new TextDecoder().decode(Uint8Array.from(bytes))}"`)
    return typeof value === 'string' ? value : ''
  } catch {
    return ''
  }
}
