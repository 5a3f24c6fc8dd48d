/** `nozzle up`: a whole pool on this machine, from nothing, until it is told to stop. */
import { rmSync } from 'node:fs'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import {
  createDataDir,
  type DataDir,
  loadSecrets,
  locateDataDir,
  writePrivateFile,
} from '../lib/data-dir.ts'
import { requireFreePort } from '../lib/edge-port.ts'
import { whenAborted } from '../lib/interrupt.ts'
import { progressOn } from '../lib/upload-progress.ts'
import { ensureBaseModel } from '../setup/base-model.ts'
import { DEVICES, type Device, prepareDevice, prepareNative } from '../setup/prepare.ts'
import { ensureDemoContent } from '../up/demo-content.ts'
import { EmbeddedPool } from '../up/embedded-pool.ts'
import { readHostPlan, resizePlan, writeHostPlan } from '../up/host-plan.ts'
import { waitForLeftovers } from '../up/leftover-children.ts'
import { acquirePoolLock } from '../up/pool-lock.ts'
import { toReadyReport } from '../up/ready-report.ts'

/** Each holds the base model and a core or more. */
const HOSTS_MAX = 64

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
    engine: {
      type: 'string',
      value: 'native|vllm',
      help: 'what runs the base model; default NOZZLE_ENGINE, then native',
    },
    'vllm-url': {
      type: 'string',
      value: 'url',
      help: 'of the vLLM server, with --engine vllm; default NOZZLE_VLLM_URL',
    },
  },
  details:
    'Builds the engine and fetches the base model when they are missing, starts edge and host,\n' +
    'deploys the example adapters to the tenant `demo`, and serves until Ctrl-C.\n' +
    'NOZZLE_PORT (default 8787, 0 = any), NOZZLE_DATA_DIR (default .nozzle in the checkout),\n' +
    'NOZZLE_BASE_MODEL (path or URL of a GGUF file; with --engine vllm the folder that the server\n' +
    'has its model from), NOZZLE_HOSTS (default 1, then as many as before; see `nozzle host add`);\n' +
    'the settings of gpu-host/config.ts and edge/config.ts are passed on. A port in use, another pool\n' +
    'on the same data directory and a wrong setting end it with exit code 4 and the fix.',
  examples: [
    'nozzle up',
    'NOZZLE_PORT=0 NOZZLE_DATA_DIR=/var/lib/nozzle nozzle up --json',
    'NOZZLE_BASE_MODEL=./llama-3.2-1b.gguf NOZZLE_SLOTS=32 nozzle up',
    'nozzle up --device cpu',
    'NOZZLE_BASE_MODEL=./Llama-3.3-70B-Instruct nozzle up --engine vllm --vllm-url http://gpu:8000',
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

function chooseEngine(asked: string): 'native' | 'vllm' {
  if (asked === 'native' || asked === 'vllm') return asked
  throw new CliError('usage', `--engine must be native or vllm, not "${asked}"`)
}

/** Throws a `usage` error for a device that does not exist. */
function chooseDevice({ flags, env }: CommandCall): Device {
  const asked = flags.text('device') ?? (env.NOZZLE_DEVICE || 'auto')
  const device = DEVICES.find((name) => name === asked)
  if (device) return device
  throw new CliError('usage', `--device must be one of ${DEVICES.join(', ')}, not "${asked}"`)
}

/** Makes ready what runs the base model; what the host is told of it. */
async function prepareEngine(call: CommandCall): Promise<Record<string, string>> {
  const { flags, env, output } = call
  const engine = chooseEngine(flags.text('engine') ?? (env.NOZZLE_ENGINE || 'native'))
  const url = flags.text('vllm-url') ?? env.NOZZLE_VLLM_URL
  if (engine === 'vllm') {
    if (!url) throw new CliError('usage', '--engine vllm needs --vllm-url', 'Give the URL.')
    if (!env.NOZZLE_BASE_MODEL) {
      const fix = 'Set it to the folder that the vLLM server has its model from.'
      throw new CliError('usage', '--engine vllm needs NOZZLE_BASE_MODEL', fix)
    }
    return { NOZZLE_ENGINE: engine, NOZZLE_VLLM_URL: url }
  }
  if (flags.text('vllm-url') !== undefined) {
    throw new CliError('usage', '--vllm-url goes with --engine vllm', 'Add it, or leave this out.')
  }
  const device = chooseDevice(call)
  await prepareNative(output.note)
  prepareDevice(device, output.note)
  return { NOZZLE_ENGINE: engine, NOZZLE_DEVICE: device }
}

/** So many as NOZZLE_HOSTS says; else as many as there were. */
function planHosts(dir: DataDir, text: string | undefined, note: (text: string) => void): void {
  if (!text) return
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > HOSTS_MAX) {
    throw new CliError('usage', `NOZZLE_HOSTS must be a number from 1 to ${HOSTS_MAX}`)
  }
  const plan = readHostPlan(dir)
  const dropped = plan.slice(count).map(({ name }) => name)
  if (dropped.length > 0) {
    note(`NOZZLE_HOSTS=${count}: no longer planned, of ${plan.length} hosts: ${dropped.join(', ')}`)
  }
  writeHostPlan(dir, resizePlan(plan, count))
}

async function serve(call: CommandCall, dir: ReturnType<typeof locateDataDir>): Promise<void> {
  const { output, projectRoot, signal, hurry } = call
  const { note } = output
  await waitForLeftovers(dir, note, signal)
  await requireFreePort(call.env)
  const env: NodeJS.ProcessEnv = { ...call.env, ...(await prepareEngine(call)) }
  const source = env.NOZZLE_BASE_MODEL
  const baseModel = await ensureBaseModel(source, dir.models, note, progressOn(output))
  const secrets = await loadSecrets(dir)
  planHosts(dir, env.NOZZLE_HOSTS, note)
  const pool = new EmbeddedPool({ env, dir, secrets, baseModel, projectRoot, note, hurry })
  const ended = new AbortController()
  let following = Promise.resolve()
  try {
    const edgeUrl = await pool.start(signal)
    following = pool.followPlan(edgeUrl, ended.signal)
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
    ended.abort()
    await following
    await pool.stop()
  }
  note('stopped')
}
