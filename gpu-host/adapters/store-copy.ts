/**
 * Copies every pack of one store to another, each proven on its way out and once more by reading it
 * back. What is there already and whole is left alone, so it may be run again, and last of all once
 * the hosts have moved. Run by `nozzle store copy` in a process of its own, with the two addresses;
 * prints a line of JSON per pack. With `dry-run` as the third argument nothing is put: `copied` then
 * means that it would be.
 */
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { toolClock } from '../clock.ts'
import { readStoreAddress } from '../config.ts'
import { errorText } from '../log.ts'
import { PackFileError, readPack } from './pack-file.ts'
import { S3Bucket } from './s3-bucket.ts'
import { S3Store } from './s3-store.ts'
import { DirectoryStore, type ListedStore } from './store-tier.ts'

type CopyOutcome = 'copied' | 'present' | 'damaged'

function openListed(address: string): ListedStore {
  const found = readStoreAddress(address)
  if (found.kind === 'directory') return new DirectoryStore(found.directory)
  const { random } = Math
  return new S3Store(new S3Bucket({ settings: found.s3, clock: toolClock, fetch, random }))
}

/** The bytes of the pack in a file, proven; null when it is not stored or not whole. */
async function take(store: ListedStore, digest: string, path: string): Promise<number | null> {
  const chunks = await store.get(digest, new AbortController().signal)
  if (chunks === null) return null
  await pipeline(chunks, createWriteStream(path))
  try {
    await readPack(path, digest)
    return (await stat(path)).size
  } catch (error) {
    if (error instanceof PackFileError) return null
    throw error
  }
}

async function copyPack(
  from: ListedStore,
  to: ListedStore,
  digest: string,
  path: string,
  isDryRun: boolean,
): Promise<{ outcome: CopyOutcome; bytes: number }> {
  const present = await take(to, digest, path)
  if (present !== null) return { outcome: 'present', bytes: present }
  const bytes = await take(from, digest, path)
  if (bytes === null) return { outcome: 'damaged', bytes: 0 }
  if (isDryRun) return { outcome: 'copied', bytes }
  await to.put(digest, path)
  if ((await take(to, digest, path)) !== null) return { outcome: 'copied', bytes }
  throw new Error(`${digest} does not come back as it was stored`)
}

async function copyAll(from: ListedStore, to: ListedStore, isDryRun: boolean): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'nozzle-store-copy-'))
  try {
    for await (const digest of from.digests()) {
      const result = await copyPack(from, to, digest, join(directory, 'pack'), isDryRun)
      process.stdout.write(`${JSON.stringify({ digest, ...result })}\n`)
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

const [, , source = '', target = '', mode = ''] = process.argv
try {
  await copyAll(openListed(source), openListed(target), mode === 'dry-run')
} catch (error) {
  process.stdout.write(`${JSON.stringify({ failure: errorText(error) })}\n`)
  process.exitCode = 1
}
