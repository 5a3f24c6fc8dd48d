/**
 * Whether a directory that keeps packs can be written, and whether its packs are what their names
 * say. Run by `nozzle doctor` in a process of its own with how many bytes to read at most; prints a
 * line of JSON. Leaves nothing behind.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readStoreAddress } from '../config.ts'
import { errorCodeOf } from '../errors.ts'
import { errorText } from '../log.ts'
import { digestHex } from './adapter-digest.ts'
import { PackFileError, readPack } from './pack-file.ts'
import { DirectoryStore } from './store-tier.ts'

interface Proof {
  readonly directory: string
  readonly packs: number
  /** Packs that were not read: the bytes to read at most were used up. */
  readonly unread: number
  readonly damaged: readonly string[]
}

async function prove(directory: string, bytesMax: number): Promise<Proof> {
  const probe = await mkdtemp(join(await existingPart(directory), '.nozzle-probe-'))
  await rm(probe, { recursive: true })
  const damaged: string[] = []
  let [packs, unread, bytes] = [0, 0, 0]
  for await (const digest of new DirectoryStore(directory).digests()) {
    const hex = digestHex(digest) ?? ''
    const path = join(directory, hex.slice(0, 2), `${hex}.nzpack`)
    packs += 1
    bytes += (await stat(path)).size
    if (bytes > bytesMax) unread += 1
    else if (!(await isWhole(path, digest))) damaged.push(digest)
  }
  return { directory, packs, unread, damaged }
}

/** The directory, or the one above it in which the pool would make it. Rejects for no directory. */
async function existingPart(directory: string): Promise<string> {
  try {
    await stat(directory)
    return directory
  } catch (error) {
    const above = dirname(directory)
    if (errorCodeOf(error) !== 'ENOENT' || above === directory) throw error
    return existingPart(above)
  }
}

async function isWhole(path: string, digest: string): Promise<boolean> {
  try {
    await readPack(path, digest)
    return true
  } catch (error) {
    if (error instanceof PackFileError) return false
    throw error
  }
}

async function run(bytesMax: number): Promise<object> {
  const address = readStoreAddress()
  if (address.kind === 's3') return { bucket: address.s3.bucket }
  return prove(address.directory, bytesMax)
}

const reply = await run(Number(process.argv[2] ?? 0)).catch((error: unknown) => ({
  failure: errorText(error),
}))
process.stdout.write(`${JSON.stringify(reply)}\n`)
