/**
 * What a deploy would say of an adapter, without a pool: `node check.ts <peft directory>
 * <base.gguf> <base model name> <largest rank>`. A line of JSON on stdout for each module that is
 * converted; the last line is the receipt, or the refusal as a host would send it (exit code 4).
 * The pack is made in full, in a directory of its own, and removed.
 */
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { HostError } from '../errors.ts'
import { openNativeEngine } from '../native-engine.ts'
import type { AdapterReceipt } from '../protocol.ts'
import { PeftIntake } from './adapter-intake.ts'
import { DiskTier } from './disk-tier.ts'
import { DirectoryStore } from './store-tier.ts'

const EXIT_REFUSED = 4
/** The engine is opened for the shape of its base model alone: as small as it goes. */
const SMALLEST = {
  slotCount: 1,
  sequenceCount: 1,
  contextLength: 16,
  kvCells: 0,
  rowsMax: 1,
  threads: 1,
}

async function check(directory: string, model: ModelArguments): Promise<AdapterReceipt> {
  const { engine } = await openNativeEngine({
    ...SMALLEST,
    ...model,
    device: 'cpu',
  })
  const scratch = await mkdtemp(join(tmpdir(), 'nozzle-check-'))
  try {
    const store = new DirectoryStore(join(scratch, 'store'))
    const options = { directory: join(scratch, 'disk'), bytesMax: Number.MAX_SAFE_INTEGER, log }
    const disk = await DiskTier.open(options)
    const intake = new PeftIntake({ engine, store, disk, log, onProgress: tellProgress })
    const [configPath, weightsPath] = [join(scratch, 'config'), join(scratch, 'weights')]
    await copyFile(join(directory, 'adapter_config.json'), configPath)
    await copyFile(join(directory, 'adapter_model.safetensors'), weightsPath)
    return await intake.install({ configPath, weightsPath })
  } finally {
    await rm(scratch, { recursive: true, force: true })
    await engine.close()
  }
}

interface ModelArguments {
  readonly modelPath: string
  readonly modelName: string
  readonly rankMax: number
}

function tellProgress(bytesDone: number, bytesTotal: number): void {
  process.stdout.write(`${JSON.stringify({ bytes_done: bytesDone, bytes_total: bytesTotal })}\n`)
}

function log(_level: string, message: string): void {
  process.stderr.write(`${message}\n`)
}

const [directory = '', modelPath = '', modelName = '', rankMax = ''] = process.argv.slice(2)
try {
  const model = { modelPath: resolve(modelPath), modelName, rankMax: Number(rankMax) }
  process.stdout.write(`${JSON.stringify(await check(directory, model))}\n`)
} catch (error) {
  if (!(error instanceof HostError)) throw error
  process.stdout.write(`${JSON.stringify(error.toBody())}\n`)
  process.exitCode = EXIT_REFUSED
}
