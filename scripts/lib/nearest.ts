/** What somebody may have meant who typed something that does not exist. Pure. */

/** Words that other tools have for ours. */
const OTHER_WORDS: Readonly<Record<string, readonly string[]>> = {
  ls: ['list', 'get'],
  list: ['ls', 'get'],
  rm: ['delete', 'remove', 'del'],
  show: ['get', 'describe', 'info', 'inspect'],
  create: ['add', 'new'],
  add: ['create', 'new', 'start'],
  up: ['start', 'serve', 'run'],
  usage: ['cost', 'costs', 'billing'],
  revoke: ['rm', 'delete', 'remove'],
}
/** A typing error for every so many letters, and one at least. */
const LETTERS_A_SLIP = 3

/** The known word that is nearest; null when none is near enough to name. */
export function nearest(typed: string, known: readonly string[]): string | null {
  const synonym = known.find((word) => isOtherWordFor(typed, word))
  if (synonym !== undefined) return synonym
  const slipsMax = Math.max(1, Math.floor(typed.length / LETTERS_A_SLIP))
  let best: { word: string; slips: number } | null = null
  for (const word of known) {
    const slips = slipsBetween(typed.toLowerCase(), word)
    if (slips <= slipsMax && (best === null || slips < best.slips)) best = { word, slips }
  }
  return best?.word ?? null
}

/** The last word of a command's name decides: `model delete` is `model rm`. */
function isOtherWordFor(typed: string, known: string): boolean {
  const [typedWords, knownWords] = [typed.split(' '), known.split(' ')]
  const [typedLast = '', knownLast = ''] = [typedWords.pop(), knownWords.pop()]
  return (
    typedWords.join(' ') === knownWords.join(' ') &&
    (OTHER_WORDS[knownLast]?.includes(typedLast) ?? false)
  )
}

/** Letters added, left out, replaced, or two beside each other swapped: the least of them. */
function slipsBetween(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const isSame = a[i - 1] === b[j - 1]
      const steps = [
        (last[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (last[j - 1] ?? 0) + (isSame ? 0 : 1),
      ]
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (isSwap) steps.push((beforeLast[j - 2] ?? 0) + 1)
      row.push(Math.min(...steps))
    }
    beforeLast = last
    last = row
  }
  return last[b.length] ?? 0
}
