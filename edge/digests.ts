/**
 * SHA-256 and HMAC-SHA-256 of texts as the platform does them with the least delay: WebCrypto here,
 * which Workers have; Node's own in node-digests.ts.
 */

/** Of the text's UTF-8 bytes. */
export type Digest = (text: string) => Uint8Array | Promise<Uint8Array>

export interface Digests {
  readonly sha256: Digest
  /** Under one secret, which is made ready once. */
  hmac(secret: Uint8Array): Digest
}

const encoder = new TextEncoder()

export const webDigests: Digests = {
  sha256: async (text) =>
    new Uint8Array(await crypto.subtle.digest('SHA-256', encoder.encode(text))),
  hmac(secret) {
    let key: ReturnType<typeof importKey> | null = null
    return async (text) => {
      key ??= importKey(secret)
      return new Uint8Array(await crypto.subtle.sign('HMAC', await key, encoder.encode(text)))
    }
  },
}

function importKey(secret: Uint8Array) {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' }
  return crypto.subtle.importKey('raw', new Uint8Array(secret), algorithm, false, ['sign'])
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Lower case. */
export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += HEX[byte]
  return text
}
