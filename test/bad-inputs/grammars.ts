/** B4: grammars, schemas and patterns that are wrong, huge, or cheap to say and dear to run. */
import {
  type BadCase,
  CaseList,
  CHAT_PATH,
  chatMembers,
  EITHER,
  type Expected,
  LEGAL,
  nested,
  objectText,
  post,
  refusedAt,
  type World,
  withMember,
} from './bad-case.ts'

const many = (count: number, of: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => of(i)).join('')

const WRONG_GRAMMARS: readonly string[] = [
  ...['root', 'root ::= (', 'root ::= )', 'root ::= "a', 'root ::= [a', 'root ::= a'],
  ...['x ::= "a"', 'root ::= "a"\nroot ::= "b"', 'root ::= *', 'root ::= "a"{', 'root ::= "a"{1'],
  ...[
    'root ::= "a"{2,1}',
    'root ::= "a"{-1}',
    'root ::= "a"{1000001}',
    `root ::= "a"{${'9'.repeat(40)}}`,
  ],
  ...[
    'root ::= []',
    'root ::= [b-a]',
    'root ::= <5>',
    'root ::= !<5>',
    'root ::= "\\q"',
    'root ::= "\\"',
  ],
  ...[
    'root ::= "\\x4"',
    'root ::= "\\u12"',
    'root ::= "\\U00110000"',
    'root ::= "\\Uffffffff"',
    '\0',
  ],
  ...[
    'root ::= root',
    'root ::= root "a" | "b"',
    'root ::= a\na ::= b\nb ::= a',
    'root ::= "x"? root',
  ],
  ...[
    'root ::= "a"* root',
    'root ::= ""{5} root',
    '::= "a"',
    'root := "a"',
    '(',
    'root ::= "a" ::= "b"',
  ],
  `root ::= ${'('.repeat(65)}"a"${')'.repeat(65)}`,
  `root ::= ${'('.repeat(30_000)}"a"${')'.repeat(30_000)}`,
  '('.repeat(65_000),
  `root ::= ${many(20_000, () => '[a]?')}`,
  many(20_000, (i) => `${i}::=.\n`).slice(0, 65_000),
]
const DEAR_GRAMMARS: Readonly<Record<string, string>> = {
  'repetitions of repetitions': 'root ::= ((("a"{1000}){1000}){1000}){1000}',
  'a million blanks': 'root ::= [ ]{1000000} "b"',
  'optional items in a row': `root ::= ${many(4000, () => '"a"? ')}"b"`,
  'nothing, a million times': 'root ::= ("a"?){1000000} "b"',
  'nothing, without end': 'root ::= (("a"?)* ("b"?)*)* "c"',
  'stacks that double': 'root ::= "a" root "b" | "a" root "c" | "a"',
  'every way to split': 'root ::= ([a-z]+ | [a-z]+ [a-z]+)* "!"',
  'brackets without end': 'root ::= "(" root',
  '2^60 paths': `${many(60, (i) => `${i === 0 ? 'root' : `r${i}`} ::= r${i + 1} | r${i + 1} "x"\n`)}r60 ::= "y"`,
  'ten thousand times ten thousand': `root::=${many(10_000, () => 'x|')}x\nx::=${many(20_000, () => '.|')}.`,
  'one class of everything': `root ::= [^${many(15_000, (i) => String.fromCodePoint(0x2ffff - 2 * i))}]*`,
  'one class, backwards': `root ::= [${many(30_000, (i) => String.fromCodePoint(0x9fff - i))}]*`,
  'deep chains': `root ::= r0\n${many(3000, (i) => `r${i} ::= r${i + 1} "x" | r${i + 1}\n`)}r3000 ::= [a-z]*`,
  'a name of 60,000 letters': `root ::= ${'n'.repeat(30_000)}\n${'n'.repeat(30_000)} ::= "a"`,
  'a comment of 60,000': `#${'x'.repeat(60_000)}\nroot ::= "a"`,
  'a literal of 60,000': `root ::= "${'a'.repeat(60_000)}"`,
  zeros: 'root ::= "\0\0\0" [\0-\x1f]*',
  surrogates: 'root ::= "\\uD800" | "\\uDFFF" | [\\uD800-\\uDFFF]',
}

const WRONG_SCHEMAS: readonly string[] = [
  ...[
    '"x"',
    '1',
    '[]',
    'false',
    '{"type":"nothing"}',
    '{"type":[]}',
    '{"type":["string","x"]}',
    '{"type":1}',
  ],
  ...[
    '{"type":{"toString":1,"valueOf":1}}',
    '{"type":[[["string"]]]}',
    '{"type":null}',
    '{"type":{}}',
  ],
  ...[
    '{"$ref":"#/nowhere"}',
    '{"$ref":"#"}',
    '{"$ref":1}',
    '{"$ref":"http://169.254.169.254/"}',
    '{"$ref":""}',
  ],
  ...[
    '{"$ref":"file:///etc/passwd"}',
    '{"$ref":"#/%"}',
    '{"$ref":"#/__proto__"}',
    '{"$ref":"#/constructor"}',
  ],
  ...[
    '{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}',
    '{"anyOf":[]}',
  ],
  ...[
    '{"anyOf":{}}',
    '{"anyOf":[1]}',
    '{"anyOf":[{"$ref":"#"}]}',
    '{"enum":[]}',
    '{"enum":"a"}',
    '{"enum":{}}',
  ],
  ...[
    '{"type":"string","enum":[1]}',
    '{"oneOf":[{}]}',
    '{"allOf":[{}]}',
    '{"not":{}}',
    '{"if":{}}',
  ],
  ...[
    '{"patternProperties":{"a":{}}}',
    '{"type":"string","minLength":-1}',
    '{"type":"string","minLength":1.5}',
  ],
  ...[
    '{"type":"string","minLength":100001}',
    '{"type":"string","minLength":2,"maxLength":1}',
    '{"minLength":"1"}',
  ],
  ...[
    '{"type":"string","maxLength":1e999}',
    '{"type":"array","minItems":2,"maxItems":1}',
    '{"minItems":1e6}',
  ],
  ...[
    '{"type":"array","items":1}',
    '{"type":"array","items":[{}]}',
    '{"type":"object","properties":[]}',
  ],
  ...[
    '{"type":"object","properties":{"a":1}}',
    '{"type":"object","required":"a"}',
    '{"required":["a"]}',
  ],
  ...[
    '{"properties":{"a":{}},"required":[{"toString":1,"valueOf":1}]}',
    '{"properties":{"a":{}},"required":[1]}',
  ],
  ...[
    '{"properties":{"a":{}},"additionalProperties":{"type":"string"}}',
    '{"minimum":"1"}',
    '{"minimum":2,"maximum":1}',
  ],
  ...[
    '{"type":"integer","minimum":1e30}',
    '{"type":"number","minimum":0.5}',
    '{"type":"number","maximum":1e308}',
  ],
  ...[
    '{"type":"integer","exclusiveMinimum":1,"exclusiveMaximum":2}',
    '{"type":"string","format":"x"}',
  ],
  ...[
    '{"type":"string","format":"__proto__"}',
    '{"type":"string","format":1}',
    '{"type":"string","pattern":1}',
  ],
  ...[
    '{"unknown":1}',
    '{"__proto__":{"type":"string"}}',
    '{"constructor":{}}',
    '{"type":"string","const":1}',
  ],
]

const WRONG_PATTERNS: readonly string[] = [
  ...[
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '*',
    '+a',
    '?',
    '^*',
    'a^b',
    'a$b',
    '^^',
    '$$',
    '(?=a)',
    '(?!a)',
    '(?<=a)b',
  ],
  ...[
    '(?<!a)b',
    '\\1',
    '(a)\\1',
    '\\b',
    '\\B',
    '\\k<a>',
    '(?<a',
    '(?a)',
    '\\p{L}',
    '\\',
    '[\\',
    '[b-a]',
    '[a',
  ],
  ...[
    'a{',
    'a{1',
    'a{2,1}',
    'a{10001}',
    'a{99999999999}',
    'a**',
    '[^\\s\\S]',
    '\\u{110000}',
    '\\u12',
    '\\x1',
  ],
  ...['(?i)a', '\\cA', '\\z', '(?#x)', 'a{1}{2}', '+', '^+a', '(|', '[[:alpha:]]('],
]
const DEAR_PATTERNS: readonly string[] = [
  ...[
    '^(a+)+$',
    '^(a|a)*$',
    '^(a|aa)+$',
    '^((a*)*)*$',
    '^(.*)*$',
    '^(.*.*.*)*$',
    '^(a{0,10000}){0,10000}$',
  ],
  ...[
    '^(((a{10000}){10000}){10000}){10000}$',
    '^(a?){10000}a{10000}$',
    '.*.*.*.*.*.*=.*',
    '^([a-z]+)*[A-Z]$',
  ],
  ...[
    '^(?:(?:(?:(?:a?)?)?)?)?$',
    '^\\S+@\\S+$',
    '^[^a]{0,10000}$',
    'x',
    '',
    '^$',
    '^(x|)$',
    '[\\W\\d]*',
  ],
  `^${'(a|b)?'.repeat(170)}$`,
  `^[${Array.from({ length: 500 }, (_, i) => String.fromCodePoint(0x4e00 + 2 * i)).join('')}]*$`,
  `${'('.repeat(16)}a${')*'.repeat(16)}`,
]

export function grammars(world: World): BadCase[] {
  const list = new CaseList('B4')
  const send = (title: string, field: string, value: () => string, expected: Expected): void => {
    const body = (): string => objectText(withMember(chatMembers(world), field, value()))
    list.add(title, post(CHAT_PATH, world.tenantKey, body), expected)
  }
  const grammar = (title: string, text: string, expected: Expected): void =>
    send(title, 'grammar', () => JSON.stringify(text), expected)
  const schema = (title: string, text: () => string, expected: Expected): void => {
    const format = () => `{"type":"json_schema","json_schema":{"name":"x","schema":${text()}}}`
    send(title, 'response_format', format, expected)
  }
  const wrongSchema = refusedAt(/^response_format\.json_schema\.schema/)

  for (const text of WRONG_GRAMMARS)
    grammar(`grammar ${text.slice(0, 40)}`, text, refusedAt('grammar'))
  grammar('a grammar of no text', '', EITHER)
  grammar('a root of nothing', 'root ::=', EITHER)
  for (const depth of [1, 10, 63, 64]) {
    grammar(
      `grammar nested ${depth} deep`,
      `root ::= ${'('.repeat(depth)}"a"${')'.repeat(depth)}`,
      LEGAL,
    )
  }
  grammar(
    'a grammar of 65,537 characters',
    `root ::= "a"${' '.repeat(65_525)}`,
    refusedAt('grammar'),
  )
  for (const [title, text] of Object.entries(DEAR_GRAMMARS)) grammar(title, text, EITHER)
  for (const value of ['1', '{}', '[]', 'true', '["root ::= \\"a\\""]']) {
    send(`grammar is ${value}`, 'grammar', () => value, refusedAt('grammar'))
  }

  for (const text of WRONG_SCHEMAS) schema(`schema ${text.slice(0, 60)}`, () => text, wrongSchema)
  for (const depth of [1, 20, 60])
    schema(`schema nested ${depth} deep`, () => nestedSchema(depth), LEGAL)
  for (const depth of [65, 100, 120]) {
    schema(`schema nested ${depth} deep`, () => nestedSchema(depth), wrongSchema)
  }
  for (const depth of [1000, 30_000, 100_000]) {
    schema(`schema nested ${depth} deep`, () => nestedSchema(depth), refusedAt(null))
  }
  for (const count of [1, 10, 999, 1000]) schema(`enum of ${count}`, () => enumOf(count), LEGAL)
  for (const count of [1001, 10_000, 100_000])
    schema(`enum of ${count}`, () => enumOf(count), wrongSchema)
  schema('enum of one long text', () => JSON.stringify({ enum: ['x'.repeat(200_000)] }), EITHER)
  schema(
    'enum of a text too long',
    () => JSON.stringify({ enum: ['x'.repeat(300_000)] }),
    wrongSchema,
  )
  schema('enum of a deep value', () => `{"enum":[${nested(200)}]}`, LEGAL)
  schema('const of a deep value', () => `{"const":${nested(200, 'a')}}`, LEGAL)
  for (const count of [100, 1000]) schema(`${count} properties`, () => propertiesOf(count), EITHER)
  for (const count of [1001, 50_000])
    schema(`${count} properties`, () => propertiesOf(count), wrongSchema)
  for (const count of [100, 9000])
    schema(`anyOf ${count}`, () => anyOf(count, () => '{"type":"null"}'), LEGAL)
  schema('anyOf 200,000', () => anyOf(200_000, () => '{"type":"null"}'), wrongSchema)
  schema(
    'types by the hundred thousand',
    () => `{"type":[${many(100_000, () => '"null",')}"null"]}`,
    LEGAL,
  )
  schema('one definition under a thousand spellings', () => manySpellings(1000), wrongSchema)
  schema('a list of itself', () => '{"type":"array","items":{"$ref":"#"}}', LEGAL)
  schema(
    'a tree of itself',
    () =>
      '{"$defs":{"t":{"properties":{"l":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"}}}},"$ref":"#/$defs/t"}',
    EITHER,
  )
  schema('a name of 100,000 letters', () => `{"properties":{"${'n'.repeat(100_000)}":{}}}`, EITHER)
  schema(
    'a name of controls',
    () => '{"properties":{"\\u0000\\"\\\\\\n":{"type":"null"}},"required":["\\u0000\\"\\\\\\n"]}',
    EITHER,
  )
  for (const pattern of WRONG_PATTERNS) {
    const text = () => JSON.stringify({ type: 'string', pattern })
    schema(`pattern ${pattern}`, text, refusedAt('response_format.json_schema.schema.pattern'))
  }
  for (const pattern of DEAR_PATTERNS) {
    schema(
      `dear pattern ${pattern.slice(0, 30)}`,
      () => JSON.stringify({ type: 'string', pattern }),
      EITHER,
    )
  }
  schema(
    'a pattern of 1,025 characters',
    () => JSON.stringify({ pattern: 'a'.repeat(1025) }),
    wrongSchema,
  )
  for (let i = 0; i < 64; i++) {
    const text = () =>
      JSON.stringify({ properties: { [`p${i}`]: { enum: [i, `${i}`] } }, required: [`p${i}`] })
    schema(`a schema of its own, ${i}`, text, LEGAL)
  }
  for (const format of [
    '{}',
    '{"type":"xml"}',
    '{"type":"json_schema"}',
    '{"type":"regex","pattern":"(a+)+$"}',
  ]) {
    send(`format ${format}`, 'response_format', () => format, refusedAt(/^response_format/))
  }
  for (const name of ['', ' ', 'a b', 'x'.repeat(65), '../x', '\u0000']) {
    const format = () => JSON.stringify({ type: 'json_schema', json_schema: { name, schema: {} } })
    send(
      `schema called ${JSON.stringify(name)}`,
      'response_format',
      format,
      refusedAt('response_format.json_schema.name'),
    )
  }
  return list.cases
}

function nestedSchema(depth: number): string {
  return `${'{"properties":{"a":'.repeat(depth)}{"type":"null"}${'}}'.repeat(depth)}`
}

function enumOf(count: number): string {
  return JSON.stringify({ enum: Array.from({ length: count }, (_, i) => `v${i}`) })
}

function propertiesOf(count: number): string {
  const names = Array.from({ length: count }, (_, i) => [`p${i}`, { type: 'null' }])
  return JSON.stringify({ properties: Object.fromEntries(names) })
}

function anyOf(count: number, part: (i: number) => string): string {
  return `{"anyOf":[${Array.from({ length: count }, (_, i) => part(i)).join(',')}]}`
}

/** Each reference is spelt its own way, and each leads to a list of schemas that is long. */
function manySpellings(count: number): string {
  const spelt = (i: number): string =>
    [...'definition']
      .map((c, at) => ((i >> at) & 1 ? `%${c.charCodeAt(0).toString(16)}` : c))
      .join('')
  const long = anyOf(5000, () => '{"type":"null"}')
  const references = anyOf(count, (i) => `{"$ref":"#/$defs/${spelt(i)}"}`)
  return `{"$defs":{"definition":${long},"all":${references}},"$ref":"#/$defs/all"}`
}
