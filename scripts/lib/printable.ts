/**
 * Text that somebody else wrote, made fit for a terminal: signs that would move its cursor, change
 * its title or turn text around are shown as escapes. Line ends and tabs stay.
 */
const UNPRINTABLE = /(?![\n\t])[\p{Cc}\p{Bidi_Control}]/gu

export function toPrintable(text: string): string {
  return text.replaceAll(UNPRINTABLE, (sign) => {
    return `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}
