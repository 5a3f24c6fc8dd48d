import { describe, expect, it } from 'vitest'
import { SimulatedDisk } from './simulated-disk.ts'

const text = (value: string): Buffer => Buffer.from(value)

function create(draws: readonly number[] = [0]): SimulatedDisk {
  let draw = 0
  const disk = new SimulatedDisk({ random: () => draws[draw++ % draws.length] ?? 0 })
  disk.makeDirectory('/d')
  return disk
}

/** A durable file that holds `old`, with `added` written behind it and not fsynced. */
function writeUnsynced(disk: SimulatedDisk, old: Buffer, added: Buffer): number {
  disk.writeFile('/d/old', old)
  const fd = disk.open('/d/a', 'create')
  disk.write(fd, old)
  disk.fsyncSync(fd)
  const directory = disk.open('/d', 'read')
  disk.fsyncSync(directory)
  disk.write(fd, added)
  return fd
}

describe('simulated disk', () => {
  it('keeps everything written over the death of a process', () => {
    const disk = create()
    disk.write(disk.open('/d/a', 'create'), text('abc'))
    disk.kill()
    expect(disk.readFile('/d/a').toString()).toBe('abc')
    expect(() => disk.write(1, text('d'))).toThrowError(expect.objectContaining({ code: 'EBADF' }))
  })

  it('loses, keeps or tears each page that was not fsynced, and zeroes what it lost', () => {
    const old = Buffer.alloc(4096, 'o')
    const added = Buffer.alloc(8192, 'n')
    const left = (...draws: number[]): Buffer => {
      const disk = create(draws)
      writeUnsynced(disk, old, added)
      disk.powerLoss()
      return disk.readFile('/d/a')
    }
    expect(left(0, 0.9)).toEqual(old)
    expect(left(0, 0.1, 0, 0)).toEqual(Buffer.concat([old, added]))
    // The later page alone arrived: writes are reordered.
    expect(left(0, 0.1, 0.9, 0)).toEqual(
      Buffer.concat([old, Buffer.alloc(4096), Buffer.alloc(4096, 'n')]),
    )
    const torn = left(0, 0.1, 0, 0.5, 0.5)
    expect(torn.subarray(8192, 8192 + 2048)).toEqual(Buffer.alloc(2048, 'n'))
    expect(torn.subarray(8192 + 2048)).toEqual(Buffer.alloc(2048))
  })

  it('loses names whose directory was not fsynced, the latest first', () => {
    const left = (kept: number): string[] => {
      const disk = create([kept])
      disk.writeFile('/d/old', text('1'))
      disk.close(disk.open('/d/new', 'create'))
      disk.rename('/d/new', '/d/old')
      disk.powerLoss()
      return disk.list('/d').sort()
    }
    expect(left(0)).toEqual(['old'])
    expect(left(0.5)).toEqual(['new', 'old'])
    expect(left(0.99)).toEqual(['old'])
  })

  it('reads what a failed fsync left, lets the next succeed, and loses it with the power', () => {
    let isFailing = true
    const disk = new SimulatedDisk({
      random: () => 0,
      fault: ({ op }) => (op === 'fsyncSync' && isFailing ? new Error('EIO') : null),
    })
    disk.makeDirectory('/d')
    disk.writeFile('/d/a', text(''))
    const fd = disk.open('/d/a', 'replace')
    disk.write(fd, text('lost'))
    expect(() => disk.fsyncSync(fd)).toThrowError('EIO')
    isFailing = false
    disk.fsyncSync(fd)
    expect(disk.readFile('/d/a').toString()).toBe('lost')
    disk.powerLoss()
    expect(disk.readFile('/d/a')).toEqual(Buffer.alloc(4))
  })

  it('makes durable what was written before an fsync began, not what came during it', async () => {
    const disk = create([0, 0.9])
    const fd = writeUnsynced(disk, text('1'), text('2'))
    const synced = new Promise((resolve) => disk.fsync(fd, resolve))
    disk.write(fd, text('3'))
    expect(await synced).toBeNull()
    disk.powerLoss()
    expect(disk.readFile('/d/a').toString()).toBe('12')
  })

  it('takes what fits, then fails with ENOSPC until something is removed', () => {
    const disk = create()
    disk.capacityBytes = 5
    disk.writeFile('/d/big', text('123'))
    const fd = disk.open('/d/a', 'create')
    expect(disk.write(fd, text('abc'))).toBe(2)
    expect(() => disk.write(fd, text('c'))).toThrowError(
      expect.objectContaining({ code: 'ENOSPC' }),
    )
    disk.unlink('/d/big')
    expect(disk.write(fd, text('c'))).toBe(1)
  })
})
