/** A scheduler with its real journal, the fake engine and scripted adapters, on virtual time. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sleep } from '../../clock.ts'
import { type Disk, nodeDisk } from '../../journal/disk.ts'
import { Journal, type JournalOptions } from '../../journal/journal.ts'
import { CURSOR_START, readSettled } from '../../journal/settled-reader.ts'
import type { GenerateEvent, UsageEvent } from '../../protocol.ts'
import type { Generation } from '../../scheduler/request-runner.ts'
import { Scheduler } from '../../scheduler/scheduler.ts'
import type { SchedulerLimits } from '../../scheduler/scheduler-options.ts'
import { createMetrics, type HostMetrics } from '../../telemetry/metrics.ts'
import { createChatTemplate } from '../../text/chat-template.ts'
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts'
import { type AdapterScript, ScriptedAdapters } from './scripted-adapters.ts'
import { VirtualClock } from './virtual-clock.ts'

export const RIG_LIMITS: SchedulerLimits = {
  queueDepthMax: 40,
  queueDepthTenantMax: 15,
  queueWaitMaxMs: 5000,
  waitTargetMs: null,
  slotWaitMaxMs: 100,
  consumerStallMaxMs: 1000,
  eventsBufferedMax: 8,
  eventBytesBufferedMax: 131_072,
  prefillRowsMin: 4,
  prefillRowsMax: 24,
  stepTargetUs: 5000,
}

/** Drawn for requests without one. */
export const RIG_SEED = 1

export interface RigOptions {
  readonly engine?: FakeEngineOptions
  readonly adapters?: ReadonlyMap<string, AdapterScript>
  readonly limits?: Partial<SchedulerLimits>
  readonly journal?: Partial<JournalOptions>
}

export class SchedulerRig {
  readonly clock = new VirtualClock()
  readonly directory = mkdtempSync(join(tmpdir(), 'nozzle-rig-'))
  readonly metrics: HostMetrics = createMetrics({ withProcess: false })
  readonly engine: FakeEngine
  readonly adapters: ScriptedAdapters
  readonly journal: Journal
  readonly scheduler: Scheduler
  readonly #disk: Disk

  constructor(options: RigOptions = {}) {
    this.engine = new FakeEngine({
      delay: (us) => sleep(this.clock, us / 1000),
      stepUs: (rows) => 1000 + rows * 37,
      ...options.engine,
    })
    this.adapters = new ScriptedAdapters(this.engine, this.clock, options.adapters ?? new Map())
    this.#disk = options.journal?.disk ?? nodeDisk
    this.journal = new Journal({
      directory: this.directory,
      hostId: 'hst_rig',
      clock: this.clock,
      log: () => {},
      segmentBytesMax: 20_000,
      totalBytesMax: 1e9,
      retentionMs: 1e12,
      fsyncIntervalMs: 100,
      shippedSegment: 0,
      ...options.journal,
    })
    this.scheduler = new Scheduler({
      engine: this.engine,
      adapters: this.adapters,
      journal: this.journal,
      metrics: this.metrics,
      clock: this.clock,
      log: () => {},
      renderChat: createChatTemplate(this.engine.info.chatTemplate, { bos: '', eos: '' }),
      hostId: 'hst_rig',
      randomSeed: () => RIG_SEED,
      limits: { ...RIG_LIMITS, ...options.limits },
    })
  }

  usage(): readonly UsageEvent[] {
    return readSettled(this.directory, CURSOR_START, 100_000, { disk: this.#disk }).events
  }

  async dispose(): Promise<void> {
    const closed = this.scheduler.close()
    await this.clock.advance(100)
    await closed
    this.journal.close()
    rmSync(this.directory, { recursive: true })
  }
}

/** Reads to the end, in the background; what was read so far is in the array. */
export function collect(generation: Generation): GenerateEvent[] {
  const events: GenerateEvent[] = []
  const read = async (): Promise<void> => {
    for (let event = await generation.next(); event !== null; event = await generation.next()) {
      events.push(event)
    }
  }
  void read()
  return events
}
