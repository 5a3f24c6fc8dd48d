/**
 * The API key as text: `nz_<id>_<secret><check>`, base62. The id is public and names the row, the
 * secret is shown once, the check (CRC-32 of all before it) tells a typo from a key without a
 * look-up. Stored is only HMAC-SHA256(pepper, whole key). Runs in workerd, Node and the CLI.
 */
import { type Digest, type Digests, toHex, webDigests } from '../digests.ts'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID_LENGTH = 12
/** 190 bits. */
const SECRET_LENGTH = 32
/** 62⁶ > 2³², so every CRC-32 fits. */
const CHECK_LENGTH = 6
const PATTERN = /^nz_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})$/

export interface ParsedApiKey {
  /** Id of the row, `key_<id>`. */
  readonly id: string
  /** What may be shown of the key. */
  readonly start: string
}

/** A new key, whole: the only time that its secret is known. */
export async function createApiKey(): Promise<string> {
  const body = `nz_${randomBase62(ID_LENGTH)}_${randomBase62(SECRET_LENGTH)}`
  return body + checkOf(body)
}

/**
 * null unless `text` has the form of a key and its check is right. Says nothing of its validity.
 */
export function parseApiKey(text: string): ParsedApiKey | null {
  const [, id, , check] = PATTERN.exec(text) ?? []
  if (id === undefined || check !== checkOf(text.slice(0, -CHECK_LENGTH))) return null
  return { id: `key_${id}`, start: `nz_${id}` }
}

/** Hashes keys under one pepper, which is made ready once. */
export class KeyHasher {
  readonly #sign: Digest

  constructor(pepper: string, digests: Digests = webDigests) {
    this.#sign = digests.hmac(encoder.encode(pepper))
  }

  /** Lower-case hex HMAC-SHA256 of the whole key under the pepper's UTF-8 bytes. */
  async hash(key: string): Promise<string> {
    return toHex(await this.#sign(key))
  }
}

/** Compares two hashes in a time that does not depend on where they differ. */
export function isSameHash(a: string, b: string): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i)
  return difference === 0
}

const encoder = new TextEncoder()

function randomBase62(length: number): string {
  let text = ''
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      // 248 = 4 · 62: above it some signs would come up more often than others.
      if (byte < 248 && text.length < length) text += ALPHABET.charAt(byte % 62)
    }
  }
  return text
}

function checkOf(body: string): string {
  let rest = crc32(encoder.encode(body))
  let text = ''
  for (let i = 0; i < CHECK_LENGTH; i++) {
    text = ALPHABET.charAt(rest % 62) + text
    rest = Math.floor(rest / 62)
  }
  return text
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb8_8320 : 0)
  }
  return (crc ^ 0xffff_ffff) >>> 0
}
