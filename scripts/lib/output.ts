/**
 * What the CLI prints: data on stdout, everything else on stderr. With `--json` stdout holds one
 * JSON document; otherwise a table or lines for people.
 */
export interface Output {
  readonly isJson: boolean
  /** Data: the JSON value, or the text that stands for it. */
  data(value: unknown, text: string): void
  /** Progress and remarks; never data. */
  note(text: string): void
}

export function createOutput(isJson: boolean): Output {
  return {
    isJson,
    data(value, text) {
      process.stdout.write(isJson ? `${JSON.stringify(value, replaceBigint)}\n` : `${text}\n`)
    },
    note(text) {
      process.stderr.write(`${text}\n`)
    },
  }
}

/** Integers beyond 2^53 travel as strings, as the HTTP API sends them. */
function replaceBigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

/** Left-aligned columns, numbers to the right; an empty table says so. */
export function formatTable(
  columns: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  if (rows.length === 0) return '(none)'
  const widths = columns.map((column, i) =>
    Math.max(column.length, ...rows.map((row) => String(row[i] ?? '').length)),
  )
  const line = (cells: readonly (string | number)[]): string =>
    cells
      .map((cell, i) =>
        typeof cell === 'number'
          ? String(cell).padStart(widths[i] ?? 0)
          : cell.padEnd(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd()
  return [line(columns), ...rows.map(line)].join('\n')
}
