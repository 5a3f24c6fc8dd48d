/**
 * The little XML that S3 answers with, read with patterns: it is flat, comes from the operator's
 * own store, and every key in it is ours.
 */

/** The text of the first element of that name; null where there is none. */
export function textOf(xml: string, name: string): string | null {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1]
  return text === undefined ? null : decodeEntities(text)
}

/** The insides of all elements of that name. */
export function elementsOf(xml: string, name: string): string[] {
  return Array.from(xml.matchAll(new RegExp(`<${name}>(.*?)</${name}>`, 'gs')), ([, x = '']) => x)
}

const ENTITIES: Readonly<Record<string, string>> = {
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  '#34': '"',
  '#39': "'",
  amp: '&',
}

function decodeEntities(text: string): string {
  return text.replaceAll(/&(lt|gt|quot|apos|#34|#39|amp);/g, (_, name) => ENTITIES[name] ?? '')
}
