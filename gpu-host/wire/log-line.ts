/**
 * One log record as one line, of edges and hosts alike: JSON in which nothing ends the line, moves
 * a terminal's cursor or turns the text around. JSON itself leaves some of these as they are.
 */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu

/** Without the line's end. Reads as the record that was given. */
export function formatLogLine(record: object): string {
  return JSON.stringify(record).replaceAll(UNPRINTABLE, escapeSign)
}

function escapeSign(sign: string): string {
  return `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`
}
