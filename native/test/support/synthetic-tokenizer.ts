/**
 * A real byte-level BPE tokenizer of any size, as GGUF metadata: the special tokens, all 256 bytes,
 * a few merges of English, and made-up words that no merge produces (they only ever come out).
 * Any text can be tokenized and comes back whole.
 */
import type { MetadataValue } from './gguf-writer.ts'

const SPECIALS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'] as const
export const END_OF_TEXT = 0
export const IM_START = 1
export const IM_END = 2

/** Token types of GGUF. */
const NORMAL = 1
const CONTROL = 3

const MERGES = [
  ...['Ġ t', 'h e', 'Ġ a', 'i n', 'o n', 'r e', 'Ġt he', 'e r', 'Ġ s', 'a t', 'Ġ w', 'o u'],
  ...['n d', 'Ġ c', 'i s', 'i t', 'e n', 'Ġa nd', 'in g', 'Ġ b', 'Ġ f', 'o r', 'l l', 'e s'],
  ...['a n', 'Ġ o', 'a r', 'Ġ in', 'e d'],
]
/** What a vocabulary holds at least: specials, bytes, merges. */
export const VOCABULARY_MIN = SPECIALS.length + 256 + MERGES.length

const CONSONANTS = 'bdfgklmnprstvz'
const VOWELS = 'aeiou'

const CHAT_TEMPLATE = [
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' ",
  "+ message['content'] + '<|im_end|>\\n' }}{% endfor %}",
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
].join('')

/** Metadata under `tokenizer.` for a vocabulary of `size` tokens, `size` ≥ VOCABULARY_MIN. */
export function syntheticTokenizer(size: number): Record<string, MetadataValue> {
  if (size < VOCABULARY_MIN)
    throw new RangeError(`a vocabulary has ${VOCABULARY_MIN} tokens or more`)
  const tokens: string[] = [...SPECIALS]
  for (let byte = 0; byte < 256; byte++) tokens.push(byteCharacter(byte))
  for (const merge of MERGES) tokens.push(merge.replace(' ', ''))
  for (let index = 0; tokens.length < size; index++) tokens.push(madeUpWord(index))
  return {
    'tokenizer.ggml.model': { text: 'gpt2' },
    'tokenizer.ggml.pre': { text: 'smollm' },
    'tokenizer.ggml.tokens': { texts: tokens },
    'tokenizer.ggml.token_type': {
      i32s: tokens.map((_, token) => (token < SPECIALS.length ? CONTROL : NORMAL)),
    },
    'tokenizer.ggml.merges': { texts: MERGES },
    'tokenizer.ggml.bos_token_id': { u32: IM_START },
    'tokenizer.ggml.eos_token_id': { u32: IM_END },
    'tokenizer.ggml.unknown_token_id': { u32: END_OF_TEXT },
    'tokenizer.ggml.add_bos_token': { bool: false },
    'tokenizer.ggml.add_space_prefix': { bool: false },
    'tokenizer.chat_template': { text: CHAT_TEMPLATE },
  }
}

/** Byte-level BPE's printable stand-in for a byte: itself where printable, else from U+0100 on. */
function byteCharacter(byte: number): string {
  return String.fromCodePoint(isPrintable(byte) ? byte : 256 + countUnprintable(byte))
}

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad)
}

function countUnprintable(below: number): number {
  let count = 0
  for (let byte = 0; byte < below; byte++) if (!isPrintable(byte)) count++
  return count
}

/** Syllables of a number with three digits or more, so no two words are equal. */
function madeUpWord(index: number): string {
  const base = CONSONANTS.length * VOWELS.length
  let word = ''
  let rest = index + base * base
  while (rest > 0) {
    const digit = rest % base
    word += `${CONSONANTS[digit % CONSONANTS.length]}${VOWELS[Math.floor(digit / CONSONANTS.length)]}`
    rest = Math.floor(rest / base)
  }
  return `Ġ${word}`
}
