/** What a start that failed says of itself, and the exit code by which a supervisor goes on. */
import { errorCodeOf } from './errors.ts'
import { errorText } from './log.ts'

/** Another try may succeed. */
export const EXIT_START_FAILED = 1
/** The environment is at fault: trying again cannot help. */
export const EXIT_CONFIGURATION = 2

/** By error code; what an operator can do about it. */
const FIXES: Readonly<Record<string, string>> = {
  invalid_request: 'correct the environment variables; gpu-host/config.ts lists them',
  model_not_found: 'set NOZZLE_BASE_MODEL_PATH to a GGUF file',
  model_invalid: 'set NOZZLE_BASE_MODEL_PATH to a whole GGUF file that this release reads',
  unsupported_architecture: 'set NOZZLE_BASE_MODEL_PATH to a model of a served architecture',
  out_of_memory: 'lower NOZZLE_SLOTS, NOZZLE_RANK_MAX or NOZZLE_KV_TOKENS, or take a smaller model',
  engine_failed: 'start the vLLM server, or correct NOZZLE_VLLM_URL',
  engine_not_built: 'run `npm run setup`',
  backend_failed: 'check the device and its driver, or set NOZZLE_DEVICE=cpu',
  invalid_argument: 'correct the engine sizes in the environment',
  EADDRINUSE: 'choose another NOZZLE_HOST_PORT, or 0 for any free one',
  EACCES: 'make NOZZLE_DATA_DIR writable for this user, or choose another port',
  ENOSPC: 'free some disk space',
  EDQUOT: 'free some disk space of this user, or raise its quota',
  journal_locked: 'stop the other host that uses this NOZZLE_DATA_DIR, or wait for its end',
  journal_failed: 'check the disk under NOZZLE_DATA_DIR: it does not keep what is written',
}

/** Settings that do not fit, and a port that whoever has it keeps, as the edge says of its own. */
const LASTING: ReadonlySet<string> = new Set(['invalid_request', 'EADDRINUSE'])

export interface StartFailure {
  readonly exitCode: number
  readonly code: string
  readonly reason: string
  readonly fix?: string
}

export function startFailureOf(error: unknown): StartFailure {
  const code = errorCodeOf(error) ?? 'start_failed'
  const fix = FIXES[code]
  return {
    exitCode: LASTING.has(code) ? EXIT_CONFIGURATION : EXIT_START_FAILED,
    code,
    reason: errorText(error),
    ...(fix === undefined ? {} : { fix }),
  }
}
