/** Grammars: what they allow is what libllama's allow, and no text costs more than is said here. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { NativeEngine } from '../index.ts'
import { NATIVE_PATHS } from '../paths.ts'
import { GREEDY } from './support/requests.ts'
import { createScratchDir, openTinyEngine, rowsOf } from './support/tiny-engine.ts'

const PROMPT = [50, 51, 52]
const dir = createScratchDir()
let engine: NativeEngine

beforeAll(async () => {
  engine = await openTinyEngine(dir)
})
afterAll(() => engine.close())

function open(sequence: number, grammar: string, seed = 1): void {
  engine.openSequence(sequence, {
    sampling: { ...GREEDY, temperature: 1.5, seed, grammar },
    topLogprobs: -1,
    promptTokens: new Int32Array(0),
  })
}

/** Text drawn under the grammar, up to `countMax` tokens, and how it came to its end. */
async function generate(grammar: string, countMax: number, seed = 1) {
  open(0, grammar, seed)
  const bytes: number[] = []
  let rows = rowsOf(0, PROMPT)
  for (let count = 0; count < countMax; count++) {
    const [sampled] = (await engine.step(rows)).sampled
    if (!sampled || sampled.isNonFinite) throw new Error('the model gave no finite logits')
    const end = sampled.isStuck ? 'stuck' : 'stop'
    const isEnd = sampled.isStuck || engine.isEndOfGeneration(sampled.token)
    if (isEnd) return { text: Buffer.from(bytes).toString(), end }
    bytes.push(...engine.tokenBytes(sampled.token))
    rows = rowsOf(0, [sampled.token], { position: PROMPT.length + count })
  }
  return { text: Buffer.from(bytes).toString(), end: 'length' }
}

describe('grammars', () => {
  it('allow, token for token, what libllama’s allow', async () => {
    const model = join(dir, 'tiny.gguf')
    // 300 seeds from 1 on; a failure prints its seed and grammar.
    const { stdout } = await promisify(execFile)(NATIVE_PATHS.grammarTestPath, [model, '1', '300'])
    expect(stdout).toMatch(/^\d{3} grammars, \d+ tokens, 0 failures/)
  })

  it.each([
    ['root ::= "a" | "é日😀"', /^(a|é日😀)$/],
    ['root ::= [a-c]{3} "-" [^a-z]{2}', /^[abc]{3}-[^a-z]{2}$/u],
    ['root ::= ("ab" | "cd"){2,4} # comment\n', /^(ab|cd){2,4}$/],
    ['root ::= list\nlist ::= "[" ( item ("," item)* )? "]"\nitem ::= [0-9] | list', /^\[.*\]$/],
    ['root ::= "\\x41\\u00e9\\U0001F600\\n\\"\\\\"', /^Aé😀\n"\\$/],
  ])('give whole texts of %j', async (grammar, expected) => {
    for (let seed = 1; seed <= 8; seed++) {
      const { text, end } = await generate(grammar, 48, seed)
      if (end === 'stop') expect(text, `seed ${seed}`).toMatch(expected)
      else expect(end, `seed ${seed}`).toBe('length')
    }
  })

  it('count long repetitions, without unrolling them', async () => {
    const { text, end } = await generate('root ::= "a"{30} ("b" "c"){5,100000} "d"{7}', 52)
    expect(text).toMatch(end === 'stop' ? /^a{30}(bc){5,}d{7}$/ : /^a{30}(bc)+b?d{0,7}$/)
  })

  it('choose among thousands of literals that begin alike', async () => {
    const values = Array.from({ length: 4000 }, (_, i) => `value-${(i * 7919) % 10_007}-${i}`)
    const grammar = `root ::= ${values.map((value) => `"${value}"`).join(' | ')}`
    for (let seed = 1; seed <= 4; seed++) {
      const { text, end } = await generate(grammar, 40, seed)
      expect(end).toBe('stop')
      expect(values).toContain(text)
    }
  })

  it('keep sequences apart that share one', async () => {
    const grammar = 'root ::= "a" [a-z] "b" [a-z] "c"'
    const alone = await generate(grammar, 10, 7)
    open(1, grammar, 9)
    await engine.step(rowsOf(1, PROMPT))
    expect(await generate(grammar, 10, 7)).toEqual(alone)
  })
})

const many = (count: number, of: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => of(i)).join('')

describe('a grammar is refused', () => {
  it.each([
    ['root ::= (', "line 1: ')' was expected"],
    ['root ::= "a', 'line 1: the grammar ends within'],
    ['item ::= "a"', "no rule 'root'"],
    ['root ::= item', "rule 'item' is used and not defined"],
    ['root ::= "a"\nroot ::= "b"', 'defined twice'],
    ['root ::= "a"{3,2}', 'maximum is below its minimum'],
    ['root ::= "a"{99999999999999999999}', 'repetitions'],
    ['root ::= *', 'nothing to repeat'],
    ['root ::= []', '[] matches nothing'],
    ['root ::= <[5]>', 'references to tokens'],
    ['root ::= "\\q"', 'unknown escape'],
    ['root ::= "a" root\nroot x', 'line 2'],
    ['root ::= root "a" | "b"', "left recursion: rule 'root'"],
    ['root ::= a\na ::= "x"? b\nb ::= "y"* a', 'left recursion'],
    [`root ::= ${'('.repeat(1000)}"a"${')'.repeat(1000)}`, 'nested more than 64'],
    [`root ::= ${many(20_000, () => '[a]? ')}`, 'more than 16384 rules'],
    [`root ::= "${'a'.repeat(200_000)}"`, 'too large'],
  ])('case %#: %s', (grammar, message) => {
    expect(() => open(0, grammar)).toThrow(
      expect.objectContaining({
        code: 'invalid_grammar',
        message: expect.stringContaining(message),
      }),
    )
  })
})

/** Grammars that make libllama's parser or matcher run away. Each ends here, one way or another. */
const HOSTILE: readonly [string, string][] = [
  ['stacks that double with every character', 'root ::= "a" root "b" | "a" root "c" | "a"'],
  ['repetitions of repetitions', 'root ::= ((("a"{1000}){1000}){1000}){1000}'],
  ['optional items in a row', `root ::= ${many(4000, () => '"a"? ')}"b"`],
  ['nothing, a million times', 'root ::= ("a"?){1000000} "b"'],
  ['nothing, without end', 'root ::= (("a"?)* ("b"?)*)* "c"'],
  [
    'a graph with 2^60 paths',
    many(60, (i) => `${i === 0 ? 'root' : `r${i}`} ::= r${i + 1} | r${i + 1} "x"\n`) +
      'r60 ::= "y"',
  ],
  [
    'a chain of empty rules, backwards',
    `root ::= r7999 "x"\nr0 ::= ""\n${many(7999, (i) => `r${i + 1} ::= r${i}\n`)}`,
  ],
  ['every way to split a word', 'root ::= ([a-z]+ | [a-z]+ [a-z]+)* "!"'],
  ['brackets without end', 'root ::= "(" root'],
  [
    'ten thousand alternatives that are twenty thousand',
    `root ::= ${many(10_000, () => 'x|')}x\nx ::= ${many(20_000, () => '.|')}.`,
  ],
  [
    'a class of sixty thousand characters, the last one first',
    `root ::= [^${many(60_000, (i) => String.fromCodePoint(0x2ffff - i * 2))}]*`,
  ],
]

describe('a hostile grammar costs a bounded piece of work:', () => {
  it.each(HOSTILE)('%s', async (_, grammar) => {
    let end = 'refused'
    try {
      end = (await generate(grammar, 48)).end
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid_grammar' })
    }
    expect(['refused', 'stuck', 'stop', 'length']).toContain(end)
    // The engine goes on for everybody else.
    expect(await generate('root ::= "ok"', 5)).toEqual({ text: 'ok', end: 'stop' })
  })
})
