/**
 * A bug as it was made in earnest somewhere, as a change of one line or a few of a file, and the
 * tests that must not pass with it.
 */
export interface PlantedBug {
  /** Kebab-case; `npm run mutants -- --only <name>`. */
  readonly name: string
  /** What a customer or an operator would suffer. */
  readonly harm: string
  readonly file: string
  /** Stands exactly once in the file. */
  readonly from: string
  readonly to: string
  /** Filters for vitest: test files, by path. */
  readonly tests: readonly string[]
  /** Narrows to tests by name; absent = all of the files. */
  readonly named?: string
}

/** Throws when the place is not there, or not once: then the table is out of date. */
export function plant(text: string, { name, file, from, to }: PlantedBug): string {
  const places = text.split(from).length - 1
  if (places !== 1) {
    throw new Error(`${name}: ${file} has the text to replace ${places} times, not once: ${from}`)
  }
  if (from === to) throw new Error(`${name}: changes nothing`)
  return text.replace(from, () => to)
}
