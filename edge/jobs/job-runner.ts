/**
 * Runs jobs when they are due. Asked by a timer on Node and by the cron trigger in a Worker, so it
 * starts no timer of its own. A job never overlaps itself and waits for no other; one that fails is
 * counted, logged and tried again, and never anybody else's error.
 */
import type { Deps } from '../deps.ts'
import { errorText } from '../errors.ts'
import { JOBS, type Job } from './jobs.ts'

const RETRY_MS_MIN = 5_000
const RETRY_MS_MAX = 60_000
/** A Worker's trigger lasts no longer: a run without an end for so long was cut off. */
const RUN_MS_MAX = 900_000

interface JobState {
  /** Monotonic. */
  dueMs: number
  /** Monotonic; null = it does not run. */
  runningSinceMs: number | null
  /** In a row. */
  failures: number
}

export class JobRunner {
  readonly #deps: Deps
  readonly #jobs: readonly (readonly [Job, JobState])[]
  #isStopped = false
  #running = new Set<Promise<void>>()

  constructor(deps: Deps, jobs = JOBS) {
    this.#deps = deps
    const never = Number.NEGATIVE_INFINITY
    this.#jobs = jobs.map((job) => [job, { dueMs: never, runningSinceMs: null, failures: 0 }])
  }

  /** Starts what is due, each for the first time at once; resolves when that is done. */
  async runDueJobs(): Promise<void> {
    if (this.#isStopped) return
    const nowMs = this.#deps.monotonicMs()
    const due = this.#jobs.filter(([, state]) => !isRunning(state, nowMs) && state.dueMs <= nowMs)
    await Promise.all(due.map(([job, state]) => this.#track(this.#run(job, state))))
  }

  /** Starts nothing more; resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#running)
  }

  async #track(run: Promise<void>): Promise<void> {
    this.#running.add(run)
    await run
    this.#running.delete(run)
  }

  /** Never rejects. */
  async #run(job: Job, state: JobState): Promise<void> {
    const { metrics, log, monotonicMs } = this.#deps
    const sinceMs = monotonicMs()
    state.runningSinceMs = sinceMs
    let waitMs = job.everyMs
    try {
      await job.run(this.#deps)
      state.failures = 0
      metrics.jobRuns.add({ task: job.name, outcome: 'done' })
    } catch (error) {
      waitMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** state.failures)
      state.failures += 1
      metrics.jobRuns.add({ task: job.name, outcome: 'failed' })
      const { failures } = state
      log('warn', 'a job failed: it is tried again', {
        job: job.name,
        failures,
        retry_ms: waitMs,
        reason: errorText(error),
      })
    }
    // Not where it was taken for cut off and runs anew.
    if (state.runningSinceMs === sinceMs) state.runningSinceMs = null
    state.dueMs = monotonicMs() + waitMs
  }
}

function isRunning({ runningSinceMs }: JobState, nowMs: number): boolean {
  return runningSinceMs !== null && nowMs - runningSinceMs < RUN_MS_MAX
}
