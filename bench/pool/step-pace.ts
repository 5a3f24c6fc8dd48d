/**
 * Preloaded into a host process of the pool benches: a step of the real engine takes at least so
 * long as the environment says, or as the bench has said since, as it does with a larger model.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { NativeEngine } from '../../native/index.ts'

const VARIABLE = 'NOZZLE_BENCH_STEP_MS'
const paceMessage = z.object({ type: z.literal('pace'), step_ms: z.number().min(0) })

export function toPaceEnvironment(stepMs: number): Record<string, string> {
  return { [VARIABLE]: String(stepMs) }
}

/** What the bench sends to change the pace of a running host. */
export function toPaceMessage(stepMs: number): z.infer<typeof paceMessage> {
  return { type: 'pace', step_ms: stepMs }
}

const environmentMs = process.env[VARIABLE]
if (environmentMs !== undefined) pace(Number(environmentMs))

function pace(startMs: number): void {
  let stepMs = startMs
  const { step } = NativeEngine.prototype
  NativeEngine.prototype.step = async function pacedStep(batch) {
    const beganMs = performance.now()
    const result = await step.call(this, batch)
    const restMs = stepMs - (performance.now() - beganMs)
    if (restMs > 0) await sleep(restMs)
    return result
  }
  process.on('message', (message) => {
    const { data } = paceMessage.safeParse(message)
    if (data !== undefined) stepMs = data.step_ms
  })
}
