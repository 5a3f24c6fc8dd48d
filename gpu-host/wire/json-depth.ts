/**
 * How deep JSON may nest, found out before it is parsed: parsers, validators and whatever walks the
 * value afterwards go down once per level, and some of them on the stack.
 */

/** The deepest JSON schema that is compiled takes about 140. */
export const JSON_DEPTH_MAX = 256

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** Whether arrays and objects nest deeper than `depthMax`. What is no JSON may be either. */
export function isTooDeep(json: Uint8Array, depthMax: number = JSON_DEPTH_MAX): boolean {
  let depth = 0
  let isText = false
  for (let i = 0; i < json.length; i++) {
    const byte = json[i]
    if (isText) {
      if (byte === BACKSLASH) i += 1
      else if (byte === QUOTE) isText = false
    } else if (byte === QUOTE) {
      isText = true
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      depth += 1
      if (depth > depthMax) return true
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
      depth -= 1
    }
  }
  return false
}
