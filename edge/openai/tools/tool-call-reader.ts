/**
 * An answer's text, piece by piece as it comes → text and calls of tools. What may be the beginning
 * of a call is held back until it is known to be one: a call is told whole, and what is none (of a
 * tool that was not offered, cut off, no JSON) is text. Blanks before a call are part of neither.
 * Work is linear in the text, however it is cut.
 */
import {
  CALL_CLOSE,
  CALL_OPEN,
  JsonNesting,
  readToolCall,
  type ToolCallText,
} from '#wire/tool-call-text.ts'

export type AnswerPiece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'call'; readonly call: ToolCallText }

export class ToolCallReader {
  readonly #callable: ReadonlySet<string>
  #place: 'text' | 'body' | 'behind call' = 'text'
  #pieces: AnswerPiece[] = []
  #text = ''
  /** Held back: blanks, and then so many signs of CALL_OPEN, or of CALL_CLOSE behind a call. */
  #blanks = ''
  #matched = 0
  /** Held back: what stands behind CALL_OPEN. */
  #body: string[] = []
  #nesting = new JsonNesting()
  #calls = 0

  /** @param callable names of the tools that were offered. */
  constructor(callable: ReadonlySet<string>) {
    this.#callable = callable
  }

  take(text: string): AnswerPiece[] {
    for (const sign of text) this.#takeSign(sign)
    return this.#told()
  }

  /** The answer is over. */
  end(): AnswerPiece[] {
    if (this.#place === 'text') {
      const mark = CALL_OPEN.slice(0, this.#matched)
      if (mark !== '' || this.#calls === 0) this.#text += this.#blanks + mark
    } else if (this.#place === 'body') this.#giveUp()
    return this.#told()
  }

  #takeSign(sign: string): void {
    if (this.#place === 'text') this.#takeText(sign)
    else if (this.#place === 'body') this.#takeBody(sign)
    else this.#takeClose(sign)
  }

  #takeText(sign: string): void {
    if (sign === CALL_OPEN[this.#matched]) {
      this.#matched += 1
      if (this.#matched < CALL_OPEN.length) return
      this.#matched = 0
      this.#place = 'body'
      this.#body = []
      this.#nesting = new JsonNesting()
    } else if (this.#matched > 0) {
      this.#text += this.#blanks + CALL_OPEN.slice(0, this.#matched)
      this.#blanks = ''
      this.#matched = 0
      this.#takeText(sign)
    } else if (isBlank(sign)) this.#blanks += sign
    else {
      this.#text += this.#blanks + sign
      this.#blanks = ''
    }
  }

  #takeBody(sign: string): void {
    const isBegun = this.#nesting.depth > 0
    if (!isBegun && sign !== '{' && !isBlank(sign)) {
      this.#giveUp()
      this.#takeText(sign)
      return
    }
    this.#body.push(sign)
    this.#nesting.take(sign)
    if (isBegun && this.#nesting.depth <= 0) this.#endBody()
  }

  #endBody(): void {
    const call = readToolCall(this.#body.join(''))
    if (call === null || !this.#callable.has(call.name)) {
      this.#giveUp()
      return
    }
    this.#tellText()
    this.#pieces.push({ kind: 'call', call })
    this.#calls += 1
    this.#blanks = ''
    this.#place = 'behind call'
  }

  /** Some models leave the mark out. */
  #takeClose(sign: string): void {
    if (sign === CALL_CLOSE[this.#matched]) {
      this.#matched += 1
      if (this.#matched < CALL_CLOSE.length) return
      this.#matched = 0
      this.#place = 'text'
    } else if (this.#matched > 0 || !isBlank(sign)) {
      const signs = CALL_CLOSE.slice(0, this.#matched) + sign
      this.#matched = 0
      this.#place = 'text'
      for (const each of signs) this.#takeText(each)
    }
  }

  /** It was no call. */
  #giveUp(): void {
    this.#text += this.#blanks + CALL_OPEN + this.#body.join('')
    this.#blanks = ''
    this.#body = []
    this.#place = 'text'
  }

  #tellText(): void {
    if (this.#text !== '') this.#pieces.push({ kind: 'text', text: this.#text })
    this.#text = ''
  }

  #told(): AnswerPiece[] {
    this.#tellText()
    const pieces = this.#pieces
    this.#pieces = []
    return pieces
  }
}

function isBlank(sign: string): boolean {
  return sign === ' ' || sign === '\n' || sign === '\t' || sign === '\r'
}
