/**
 * What documents show, as data: the fenced blocks of a Markdown file, and the commands that stand
 * in its running text. Fences say what is done with them:
 *
 *   sh                 run; exit code 0
 *   sh exit N          run; exit code N
 *   sh serves          starts a pool, which goes on until the next one or the document's end
 *   sh not run: WHY    only checked: the commands, their words and flags exist
 *   python             run, where there is OpenAI's package
 *   text output        what the block before it prints on stdout, in shape
 *
 * Commands anywhere else (indented, in a fence without a language) are an error: nobody would run
 * them. What is no command stands in a fence of its own language, such as `text`.
 */

export type BlockUse =
  | { readonly kind: 'run'; readonly exitCode: number }
  | { readonly kind: 'serve' }
  | { readonly kind: 'check'; readonly reason: string }
  | { readonly kind: 'python' }

export interface DocBlock {
  /** Of its first line, from 1. */
  readonly line: number
  readonly source: string
  readonly use: BlockUse
  /** Absent = the document does not show what is printed. */
  readonly output?: string
}

export interface Doc {
  readonly path: string
  readonly blocks: readonly DocBlock[]
  /** Commands in backticks within a sentence. */
  readonly spans: readonly { readonly line: number; readonly source: string }[]
  /** What is wrong with the document itself. */
  readonly faults: readonly string[]
}

const FENCE = /^(\s*)(`{3,})\s*([^`]*)$/
const SPAN = /`([^`]+)`/g
const PROGRAMS =
  'nozzle|npm|npx|node|vitest|curl|docker|kubectl|systemctl|pip|python3?|git|scripts/\\S+'
const COMMAND = new RegExp(`^(?:[A-Z][A-Z_]+=\\S* )*(?:${PROGRAMS}) `)
const COMMAND_SPAN = /^(?:npm run --silent nozzle -- |nozzle )/

export function parseDoc(path: string, text: string): Doc {
  const blocks: DocBlock[] = []
  const spans: Doc['spans'][number][] = []
  const faults: string[] = []
  const lines = text.split('\n')
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? ''
    const [, indent = '', fence, info = ''] = FENCE.exec(line) ?? []
    if (fence === undefined) {
      if (COMMAND.test(line.replace(/^ {4}\s*/, '')) && /^ {4}/.test(line)) {
        faults.push(`${path}:${at + 1}: a command in an indented block; a fence of sh is run`)
      }
      for (const [, source = ''] of line.matchAll(SPAN)) {
        if (COMMAND_SPAN.test(source)) spans.push({ line: at + 1, source })
      }
      continue
    }
    const end = lines.findIndex((each, index) => index > at && each.trim() === fence)
    if (end < 0) {
      faults.push(`${path}:${at + 1}: a fence without an end`)
      break
    }
    const inside = lines.slice(at + 1, end).map((each) => each.replace(indent, ''))
    const source = inside.join('\n')
    const use = readInfo(info.trim())
    if (use === 'output')
      attachOutput(blocks, source, () => faults.push(`${path}:${at + 1}: ${LONE}`))
    else if (use !== null && use !== 'unknown') blocks.push({ line: at + 2, source, use })
    else if (use === 'unknown')
      faults.push(`${path}:${at + 1}: "${info}" says nothing known of a fence`)
    else if (info.trim() === '' && inside.some((each) => COMMAND.test(each))) {
      faults.push(`${path}:${at + 1}: commands in a fence that is not sh`)
    }
    at = end
  }
  return { path, blocks, spans, faults }
}

const LONE = 'output that follows no block that is run'

/** null = a fence of something else; `unknown` = of sh, with words that mean nothing. */
function readInfo(info: string): BlockUse | 'output' | 'unknown' | null {
  if (info === 'text output') return 'output'
  if (info === 'python') return { kind: 'python' }
  const [, rest] = /^sh\b\s*(.*)$/.exec(info) ?? []
  if (rest === undefined) return /^(bash|shell|console)\b/.test(info) ? 'unknown' : null
  if (rest === '') return { kind: 'run', exitCode: 0 }
  if (rest === 'serves') return { kind: 'serve' }
  const [, exitCode] = /^exit (\d{1,3})$/.exec(rest) ?? []
  if (exitCode !== undefined) return { kind: 'run', exitCode: Number(exitCode) }
  const [, reason] = /^not run: (\S.*)$/.exec(rest) ?? []
  return reason === undefined ? 'unknown' : { kind: 'check', reason }
}

function attachOutput(blocks: DocBlock[], output: string, refuse: () => void): void {
  const block = blocks.pop()
  if (block !== undefined && block.output === undefined && block.use.kind !== 'check') {
    blocks.push({ ...block, output })
    return
  }
  if (block !== undefined) blocks.push(block)
  refuse()
}

/**
 * Whether what was printed is what the document shows: its lines in their order, others may stand
 * between none of them unless a line is `…`. Within a line `…` is any text, a number any number,
 * and white space any white space.
 */
export function isShownAs(printed: string, shown: string): boolean {
  const pattern = shown
    .trimEnd()
    .split('\n')
    .map((line) => {
      return line.trim() === '…' ? '[\\s\\S]*?' : `${linePattern(line)}[^\\S\\n]*(?:\\n|$)`
    })
    .join('')
  return new RegExp(`^${pattern}\\n*$`).test(printed)
}

function linePattern(line: string): string {
  return line
    .trimEnd()
    .split(/(…|\d+(?:\.\d+)?|\s+)/)
    .map((piece) => {
      if (piece === '…') return '.*?'
      if (/^\d/.test(piece)) return '\\d+(?:\\.\\d+)?'
      if (/^\s+$/.test(piece)) return '[^\\S\\n]+'
      return piece.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
    })
    .join('')
}
