/** API keys that are none, as they come: typed wrong, guessed, forged, injected. */
import { crc32 } from 'node:zlib'
import { createRandom } from '../../../gpu-host/test/support/random.ts'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const PRINTABLE = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).join('')
const INJECTIONS = [
  `' OR '1'='1`,
  `'; DROP TABLE api_keys; --`,
  `" OR ""="`,
  `\\'; SELECT pg_sleep(10); --`,
  `%' OR key_hash LIKE '%`,
  `$1`,
  `\${id}`,
  `nz_%`,
  `*/ OR 1=1 /*`,
  `1) UNION SELECT * FROM api_keys --`,
  `\u0000`,
  `\u2019 OR 1=1`,
  `\ufeff`,
  '; copy api_keys to program $$id$$',
]

export type WrongKind =
  | 'mutated'
  | 'cut'
  | 'spliced'
  | 'random'
  | 'injected'
  | 'case'
  | 'lookalike'
  /** These have a right check: whether they are good only the database knows. */
  | 'resealed'
  | 'unknown id'
  | 'transplanted'

export interface WrongKey {
  readonly kind: WrongKind
  readonly text: string
}

const OPEN: readonly WrongKind[] = [
  ...(['mutated', 'cut', 'spliced', 'random', 'injected', 'case', 'lookalike'] as const),
]
const SEALED: readonly WrongKind[] = ['resealed', 'unknown id', 'transplanted']

export function isSealed({ kind }: WrongKey): boolean {
  return SEALED.includes(kind)
}

/** With the check that belongs to it. */
export function seal(body: string): string {
  let rest = crc32(body)
  let check = ''
  for (let i = 0; i < 6; i++) {
    check = BASE62.charAt(rest % 62) + check
    rest = Math.floor(rest / 62)
  }
  return body + check
}

/** One in `sealedOneIn` has a right check. The same for the same seed and real keys. */
export function* wrongKeys(
  real: readonly string[],
  { count, sealedOneIn, seed }: { count: number; sealedOneIn: number; seed: number },
): Generator<WrongKey> {
  const random = createRandom(seed)
  const at = (length: number): number => Math.floor(random() * length)
  const pick = (): string => real[at(real.length)] ?? ''
  const base62 = (length: number): string =>
    Array.from({ length }, () => BASE62[at(BASE62.length)]).join('')
  const change = (text: string, signs: string): string => {
    const i = at(text.length)
    return text.slice(0, i) + signs[at(signs.length)] + text.slice(i + 1)
  }
  const makers: Readonly<Record<WrongKind, () => string>> = {
    mutated: () => {
      let text = pick()
      for (let times = 1 + at(3); times > 0; times--) text = change(text, PRINTABLE)
      return text
    },
    cut: () => (random() < 0.5 ? pick().slice(0, at(55)) : pick() + base62(1 + at(5))),
    spliced: () => {
      const i = 1 + at(53)
      return pick().slice(0, i) + pick().slice(i)
    },
    random: () => `nz_${base62(12)}_${base62(38)}`,
    injected: () => {
      const key = pick()
      const i = at(key.length)
      const text = INJECTIONS[at(INJECTIONS.length)] ?? ''
      return key.slice(0, i) + text + key.slice(random() < 0.5 ? i : i + text.length)
    },
    case: () => [...pick()].map((sign) => (random() < 0.2 ? flip(sign) : sign)).join(''),
    lookalike: () => {
      const key = pick()
      const i = at(key.length)
      const wide = String.fromCharCode(key.charCodeAt(i) - 33 + 0xff01)
      return key.slice(0, i) + wide + key.slice(i + 1)
    },
    resealed: () => {
      const body = pick().slice(0, -6)
      return seal(body.slice(0, 16) + change(body.slice(16), BASE62))
    },
    'unknown id': () => seal(`nz_${base62(12)}_${base62(32)}`),
    transplanted: () => seal(pick().slice(0, 16) + pick().slice(16, -6)),
  }
  const known = new Set(real)
  for (let i = 0; i < count; ) {
    const kinds = i % sealedOneIn === 0 ? SEALED : OPEN
    const kind = kinds[at(kinds.length)] ?? 'random'
    const text = makers[kind]()
    if (known.has(text)) continue
    i += 1
    yield { kind, text }
  }
}

function flip(sign: string): string {
  return sign === sign.toUpperCase() ? sign.toLowerCase() : sign.toUpperCase()
}
