import { expect, it } from 'vitest'
import { Random } from '../../native/test/support/random.ts'
import { ReplicaBook } from './replica-book.ts'

const CAPACITY = 16

/** Asks ten times a second for `seconds`; the counts in turn, repeats left out. */
function watch(seconds: number, demandAt: (second: number) => number, book: Book): number[] {
  const counts: number[] = []
  for (let tenth = 0; tenth < 10 * seconds; tenth++) {
    book.nowMs += 100
    const count = book.replicas.replicas('adapter', demandAt(tenth / 10), CAPACITY)
    if (counts.at(-1) !== count) counts.push(count)
  }
  return counts
}

interface Book {
  nowMs: number
  readonly replicas: ReplicaBook
}

function createBook(): Book {
  const book: Book = { nowMs: 0, replicas: new ReplicaBook(() => book.nowMs) }
  return book
}

it('grows with lasting demand, and shrinks again when it is gone', () => {
  const book = createBook()
  expect(watch(60, () => 5, book)).toEqual([1])
  expect(watch(60, () => 45, book)).toEqual([1, 2, 3, 4])
  expect(watch(300, () => 3, book)).toEqual([4, 3, 2, 1])
})

it('does not follow a burst that is over within a second', () => {
  const book = createBook()
  expect(watch(20, (second) => (second % 10 < 0.5 ? 60 : 1), book)).toEqual([1])
})

it('does not flap where noisy demand lies on a border', () => {
  for (let seed = 0; seed < 50; seed++) {
    const random = new Random('replicas', seed)
    const book = createBook()
    // 24 is where a third host would be gained; ± 40 %.
    const counts = watch(600, () => 24 * (0.6 + 0.8 * random.fraction()), book)
    expect(counts.length, `seed ${seed}: ${counts}`).toBeLessThanOrEqual(3)
    expect(counts.at(-1)).toBeGreaterThanOrEqual(2)
  }
})

it('does not take one question after a long pause for lasting demand', () => {
  const book = createBook()
  expect(watch(1, () => 14, book)).toEqual([1])
  book.nowMs += 600_000
  // Four would serve it.
  expect(book.replicas.replicas('adapter', 45, CAPACITY)).toBeLessThan(3)
})
