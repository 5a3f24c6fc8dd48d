import { expect, it } from 'vitest'
import { NonceBook } from './nonce-book.ts'

it('takes each nonce once for the life of its token', () => {
  const book = new NonceBook(10)
  expect(book.use('a', 35, 0)).toBe('fresh')
  for (const nowS of [0, 1, 34.9, 35]) expect(book.use('a', 35, nowS)).toBe('used')
})

it('holds no more than its bound, and has room again when tokens are over', () => {
  const book = new NonceBook(100)
  for (let i = 0; i < 100; i++) expect(book.use(`n${i}`, 35, 0)).toBe('fresh')
  expect(book.use('one more', 35, 30)).toBe('full')
  expect(book.use('n0', 35, 30)).toBe('used')
  expect(book.use('one more', 71, 36)).toBe('fresh')
  expect(book.size).toBe(1)
})
