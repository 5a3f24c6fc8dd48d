/**
 * A deploy on the host: PEFT files → checks → pack → store (for good) and disk (for the first
 * request). The same bytes for the same base model are one adapter, however often they come. A
 * refused adapter leaves nothing behind.
 */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { AdapterIntake } from '../adapter-upload.ts'
import type { AdapterImage } from '../engine.ts'
import { errorText, type Log } from '../log.ts'
import type { AdapterReceipt } from '../protocol.ts'
import { adapterDigest, sha256OfFile } from './adapter-digest.ts'
import { adapterInvalid } from './adapter-invalid.ts'
import type { PackManifest } from './adapter-pack.ts'
import { planModules } from './adapter-plan.ts'
import type { AdapterTarget } from './base-shape.ts'
import type { DiskTier } from './disk-tier.ts'
import { PackFileError, packFileBytes, writePack } from './pack-file.ts'
import { checkPackFits } from './pack-fit.ts'
import { CONFIG_BYTES_MAX, parsePeftConfig } from './peft-config.ts'
import { type ConversionProgress, createPack } from './peft-to-pack.ts'
import { SafetensorsFile } from './safetensors-reader.ts'
import type { AdapterStore } from './store-tier.ts'

export interface PeftIntakeOptions {
  readonly engine: AdapterTarget
  readonly store: AdapterStore
  readonly disk: DiskTier
  readonly log: Log
  readonly onProgress?: ConversionProgress
}

interface UploadedFiles {
  readonly configPath: string
  readonly weightsPath: string
}

export class PeftIntake implements AdapterIntake {
  readonly #options: PeftIntakeOptions

  constructor(options: PeftIntakeOptions) {
    this.#options = options
  }

  /**
   * The pack is written beside the weights for a moment: the directory is the caller's to remove.
   */
  async install(files: UploadedFiles): Promise<AdapterReceipt> {
    const config = await readConfig(files.configPath)
    const [configSha256, weightsSha256] = await Promise.all([
      sha256OfFile(files.configPath),
      sha256OfFile(files.weightsPath),
    ])
    const digest = this.digestOf(configSha256, weightsSha256)
    const stored = await this.find(digest)
    if (stored !== null) return stored
    const image = await this.#convert(digest, config, files.weightsPath)
    await this.#keep(image, dirname(files.weightsPath))
    return this.#toReceipt(image.manifest, false)
  }

  digestOf(configSha256: string, weightsSha256: string): string {
    return adapterDigest(configSha256, weightsSha256, this.#options.engine.info.baseDigest)
  }

  /** What is stored under that digest; null when nothing is, or nothing that is whole. */
  async find(digest: string): Promise<AdapterReceipt | null> {
    const stored = await this.#findStored(digest)
    if (stored === null) return null
    checkPackFits(stored, this.#options.engine)
    return this.#toReceipt(stored, true)
  }

  /** Proves the stored pack by reading it through the disk tier; a damaged one is made anew. */
  async #findStored(digest: string): Promise<PackManifest | null> {
    const { store, disk, log } = this.#options
    const bytes = await store.get(digest, new AbortController().signal)
    if (bytes === null) return null
    try {
      return (await disk.write(digest, bytes)).manifest
    } catch (error) {
      if (!(error instanceof PackFileError)) throw error
      log('warn', 'stored pack replaced', { digest, reason: errorText(error) })
      return null
    }
  }

  async #convert(digest: string, configBytes: Buffer, weightsPath: string): Promise<AdapterImage> {
    const { engine, onProgress } = this.#options
    const { info, limits } = engine
    const config = parsePeftConfig(configBytes)
    const weights = await SafetensorsFile.open(weightsPath)
    try {
      const modules = await planModules(config, weights.tensors, info, limits.rankMax)
      return await createPack({ digest, config, modules, weights, base: info, onProgress })
    } finally {
      await weights.close()
    }
  }

  async #keep(image: AdapterImage, directory: string): Promise<void> {
    const { store, disk, log } = this.#options
    const { digest } = image.manifest
    const path = join(directory, `pack-${randomUUID()}`)
    try {
      await writePack(path, image)
      await store.put(digest, path)
      await disk.write(digest, createReadStream(path)).catch((error: unknown) => {
        // The disk tier is a cache: the deploy stands without it.
        log('warn', 'pack not kept on disk', { digest, reason: errorText(error) })
      })
    } finally {
      await rm(path, { force: true })
    }
  }

  /** A pack belongs to a base's bytes; it may be stored under another name of theirs. */
  #toReceipt(manifest: PackManifest, existed: boolean): AdapterReceipt {
    return {
      digest: manifest.digest,
      base_model: this.#options.engine.info.baseModel,
      base_digest: manifest.base_digest,
      rank: manifest.rank,
      alpha: manifest.alpha,
      use_rslora: manifest.use_rslora,
      target_modules: manifest.target_modules,
      tensors: manifest.modules.length * 2,
      pack_bytes: packFileBytes(manifest),
      existed,
    }
  }
}

async function readConfig(path: string): Promise<Buffer> {
  const { size } = await stat(path)
  if (size <= CONFIG_BYTES_MAX) return readFile(path)
  throw adapterInvalid('config', 'config', `has ${size} bytes; at most ${CONFIG_BYTES_MAX}`)
}
