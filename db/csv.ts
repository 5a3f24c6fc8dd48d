/** Comma-separated values as RFC 4180 has them: CRLF line ends, quotes where they are needed. */

/** null stands for no value: an empty field, which an empty text (`""`) can be told from. */
export function formatCsv(
  columns: readonly string[],
  rows: readonly (readonly (string | null)[])[],
): string {
  return [columns, ...rows].map((cells) => `${cells.map(toField).join(',')}\r\n`).join('')
}

function toField(value: string | null): string {
  if (value === null) return ''
  return value === '' || /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value
}
