/**
 * What the CLI prints: data on stdout, everything else on stderr. With `--json` stdout holds one
 * JSON document, or one a line where a command goes on; otherwise a table or lines for people.
 */
import { canRedraw, hasColour, type Paint, paintOn } from './colour.ts'
import { toPrintable } from './printable.ts'

export interface TextSink {
  write(text: string): unknown
  /** A terminal, where a line may be drawn anew. */
  readonly isTTY?: boolean | undefined
}

export interface Output {
  readonly isJson: boolean
  /** Data: the JSON value on a line, or the text that stands for it. */
  data(value: unknown, text: string): void
  /** Data that has a form of its own, such as CSV: as it is, with --json too. */
  raw(text: string): void
  /**
   * Part of the data as it arrives, for people only: streamed text. It is a model's, so on a
   * terminal without what would move the cursor.
   */
  piece(text: string): void
  /** Progress and remarks; never data. */
  note(text: string): void
  /** Draws over the line that the cursor stands in, on stderr; null where that is no terminal. */
  readonly redraw: ((text: string) => void) | null
  /** Colours what `data` gets as text; leaves it alone where colour is not wanted. */
  readonly paint: Paint
}

export function createOutput(
  isJson: boolean,
  stdout: TextSink,
  stderr: TextSink,
  env: NodeJS.ProcessEnv = {},
): Output {
  const isDrawn = canRedraw(env, stderr.isTTY === true)
  return {
    isJson,
    paint: paintOn(hasColour(env, stdout.isTTY === true)),
    data(value, text) {
      stdout.write(isJson ? `${JSON.stringify(value, replaceBigint)}\n` : `${text}\n`)
    },
    raw(text) {
      stdout.write(text)
    },
    piece(text) {
      if (!isJson) stdout.write(stdout.isTTY === true ? toPrintable(text) : text)
    },
    note(text) {
      stderr.write(`${text}\n`)
    },
    redraw: isDrawn ? (text) => stderr.write(`\r${text}\x1b[K`) : null,
  }
}

/** Integers beyond 2^53 travel as strings, as the HTTP API sends them. */
function replaceBigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

/** Columns of text to the left, numbers to the right; an empty table says so. */
export function formatTable(
  columns: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  if (rows.length === 0) return '(none)'
  const widths = columns.map((column, i) =>
    Math.max(column.length, ...rows.map((row) => String(row[i] ?? '').length)),
  )
  const isNumeric = columns.map((_, i) => rows.every((row) => typeof row[i] === 'number'))
  const line = (cells: readonly (string | number)[]): string =>
    cells
      .map((cell, i) => {
        const width = widths[i] ?? 0
        return isNumeric[i] ? String(cell).padStart(width) : String(cell).padEnd(width)
      })
      .join('  ')
      .trimEnd()
  return [line(columns), ...rows.map(line)].join('\n')
}

/** Decimal units, three digits: `4.94 MB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`
}

/** For a POSIX shell: as it is when harmless, else in single quotes. */
export function quoteForShell(text: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}
