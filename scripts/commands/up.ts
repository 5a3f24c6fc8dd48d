/** `nozzle up`: a whole pool on this machine, from nothing, until it is told to stop. */
import { rmSync } from 'node:fs'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { createDataDir, loadSecrets, locateDataDir, writePrivateFile } from '../lib/data-dir.ts'
import { whenAborted } from '../lib/interrupt.ts'
import { ensureBaseModel } from '../setup/base-model.ts'
import { DEVICES, type Device, prepareDevice, prepareNative } from '../setup/prepare.ts'
import { ensureDemoContent } from '../up/demo-content.ts'
import { EmbeddedPool } from '../up/embedded-pool.ts'
import { waitForLeftovers } from '../up/leftover-children.ts'
import { acquirePoolLock } from '../up/pool-lock.ts'
import { toReadyReport } from '../up/ready-report.ts'

export const upCommand: Command = {
  name: 'up',
  summary: 'start a whole pool on this machine',
  positionals: [],
  flags: {
    device: {
      type: 'string',
      value: 'auto|cpu|cuda',
      help: 'what computes; default NOZZLE_DEVICE, then auto: CUDA where there is an NVIDIA GPU',
    },
  },
  details:
    'Builds the engine and fetches the base model when they are missing, starts edge and host,\n' +
    'deploys the example adapters to the tenant `demo`, and serves until Ctrl-C.\n' +
    'NOZZLE_PORT (default 8787, 0 = any), NOZZLE_DATA_DIR (default .nozzle in the checkout),\n' +
    'NOZZLE_BASE_MODEL (path or URL of a GGUF file); the settings of gpu-host/config.ts and\n' +
    'edge/config.ts are passed on.',
  examples: [
    'nozzle up',
    'NOZZLE_PORT=0 NOZZLE_DATA_DIR=/var/lib/nozzle nozzle up --json',
    'NOZZLE_BASE_MODEL=./llama-3.2-1b.gguf NOZZLE_SLOTS=32 nozzle up',
    'nozzle up --device cpu',
  ],
  async run(call) {
    const dir = locateDataDir(call.env, call.projectRoot)
    createDataDir(dir)
    const release = acquirePoolLock(dir.root)
    try {
      await serve(call, dir)
    } finally {
      release()
    }
  },
}

/** Throws a `usage` error for a device that does not exist. */
function chooseDevice({ flags, env }: CommandCall): Device {
  const asked = flags.text('device') ?? (env.NOZZLE_DEVICE || 'auto')
  const device = DEVICES.find((name) => name === asked)
  if (device) return device
  throw new CliError('usage', `--device must be one of ${DEVICES.join(', ')}, not "${asked}"`)
}

async function serve(call: CommandCall, dir: ReturnType<typeof locateDataDir>): Promise<void> {
  const { output, projectRoot, signal, hurry } = call
  const { note } = output
  const device = chooseDevice(call)
  const env: NodeJS.ProcessEnv = { ...call.env, NOZZLE_DEVICE: device }
  await prepareNative(note)
  prepareDevice(device, note)
  const baseModel = await ensureBaseModel(env.NOZZLE_BASE_MODEL, dir.models, note)
  const secrets = await loadSecrets(dir)
  await waitForLeftovers(dir, note, signal)
  const pool = new EmbeddedPool({ env, dir, secrets, baseModel, projectRoot, note, hurry })
  try {
    const edgeUrl = await pool.start(signal)
    const operator = { edgeUrl, apiKey: secrets.operator_key }
    const demo = { operator, dir, projectRoot, baseModelName: baseModel.name, note, signal }
    const models = await ensureDemoContent(demo)
    const running = { edge_url: edgeUrl, base_model: baseModel.name, pid: process.pid }
    writePrivateFile(dir.runningFile, JSON.stringify(running))
    const facts = { edgeUrl, baseModel: baseModel.name, models, dir, projectRoot }
    const report = toReadyReport(facts)
    output.data(report.json, report.text)
    await whenAborted(signal)
  } finally {
    if (signal.aborted) note('stopping: running answers are finished first; Ctrl-C again hurries')
    rmSync(dir.runningFile, { force: true })
    await pool.stop()
  }
  note('stopped')
}
