import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { UploadPlaces } from './upload-places.ts'

let staging = ''
beforeEach(() => {
  staging = mkdtempSync(join(tmpdir(), 'nozzle-places-'))
})
afterEach(() => rmSync(staging, { recursive: true, force: true }))

const refused = expect.objectContaining({ code: 'upload_limit_reached' })

describe('UploadPlaces', () => {
  it('keeps a place for others where there is more than one', async () => {
    const places = new UploadPlaces(staging, 3)
    const hold = Promise.withResolvers<void>()
    const own = [1, 2].map(() => places.run('ten_a', () => hold.promise))
    await expect(places.run('ten_a', () => hold.promise)).rejects.toEqual(refused)
    const other = places.run('ten_b', () => hold.promise)
    await expect(places.run('ten_c', () => hold.promise)).rejects.toEqual(refused)
    hold.resolve()
    await Promise.all([...own, other])
    await places.run('ten_a', async () => {})
  })

  it('gives its one place to anybody', async () => {
    const places = new UploadPlaces(staging, 1)
    await places.run('ten_a', async () => {
      await expect(places.run('ten_b', async () => {})).rejects.toEqual(refused)
    })
    await places.run(null, async () => {})
  })

  it('leaves nothing behind, and no place taken, whatever happened', async () => {
    const places = new UploadPlaces(staging, 1)
    let seen = ''
    const failing = places.run('ten_a', async (directory) => {
      seen = directory
      expect(existsSync(directory)).toBe(true)
      throw new Error('no')
    })
    await expect(failing).rejects.toThrow('no')
    expect(seen.startsWith(staging)).toBe(true)
    expect(readdirSync(staging)).toEqual([])
    await places.run('ten_a', async () => {})
  })
})
