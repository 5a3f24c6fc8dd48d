/** A GBNF grammar without recursion as a RegExp over whole texts: an oracle that shares no code. */
export function toRegExp(grammar: string): RegExp {
  const rules = new Map(
    grammar
      .trimEnd()
      .split('\n')
      .map((line): [string, string] => {
        const [name = '', body = ''] = line.split(/ ::= (.*)/s)
        return [name, body]
      }),
  )
  const expand = (name: string, path: readonly string[]): string => {
    const body = rules.get(name)
    if (body === undefined) throw new Error(`no rule ${name}`)
    if (path.includes(name)) throw new Error(`rule ${name} refers to itself`)
    const pieces = body.match(PIECES) ?? []
    if (pieces.join('') !== body.replaceAll(GAPS, '$1')) throw new Error(`not read whole: ${body}`)
    return pieces.map((piece) => toSource(piece, (rule) => expand(rule, [...path, name]))).join('')
  }
  return new RegExp(`^(?:${expand('root', [])})$`, 'u')
}

const PIECES =
  /"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[A-Za-z][A-Za-z0-9-]*|\{\d+,?\d*\}|[()|*+?]/gs
const GAPS = /("(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\])| /gs

function toSource(piece: string, expand: (rule: string) => string): string {
  if (piece.startsWith('"')) {
    const text = JSON.parse(piece.replaceAll(/\\x(..)/g, '\\u00$1')) as string
    return `(?:${text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&')})`
  }
  if (piece.startsWith('[')) {
    const inner = piece.slice(1, -1).replaceAll(/\\U(.{8})/g, (_, hex) => `\\u{${hex}}`)
    const [negation, rest] = inner.startsWith('^') ? ['^', inner.slice(1)] : ['', inner]
    return `[${negation}${rest.replaceAll('"', '\\x22').replaceAll('/', '\\/').replace(/^-/, '\\-')}]`
  }
  if (piece === '(') return '(?:'
  if (/^[A-Za-z]/.test(piece)) return `(?:${expand(piece)})`
  return piece
}
