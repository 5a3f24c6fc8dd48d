/**
 * Puts the parts of a host together and takes them apart again. Start: journal (with recovery) →
 * scheduler → server → heartbeat and outbox. Stop, the other way round: refuse new requests, let
 * streams finish within the grace, end the rest, ship what can be shipped, close journal and
 * engine.
 */
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AdapterIntake } from './adapter-upload.ts'
import { type Clock, sleep } from './clock.ts'
import type { HostConfig } from './config.ts'
import type { DirectStore } from './direct-uploads.ts'
import { GrantVerifier } from './grants.ts'
import { type Disk, nodeDisk } from './journal/disk.ts'
import { Journal } from './journal/journal.ts'
import { placeCursor, readShippedCursor } from './journal/shipped-cursor.ts'
import { errorText, type Log } from './log.ts'
import type { Heartbeat, HostWish } from './protocol.ts'
import type { AdapterPort } from './scheduler/adapter-port.ts'
import type { RequestRunner } from './scheduler/request-runner.ts'
import { createHostServer } from './server.ts'
import type { ServingEngine } from './serving-engine.ts'
import { EdgeClient, EdgeFailover } from './telemetry/edge-client.ts'
import { beat, type HeartbeatOptions, runHeartbeat } from './telemetry/heartbeat.ts'
import type { HostMetrics } from './telemetry/metrics.ts'
import { UsageOutbox } from './telemetry/usage-outbox.ts'
import { Tracing } from './tracing/tracing.ts'

export type HostSettings = Pick<
  HostConfig,
  | 'address'
  | 'port'
  | 'url'
  | 'edgeUrls'
  | 'poolSecret'
  | 'acceptedSecrets'
  | 'journalDirectory'
  | 'stagingDirectory'
  | 'drainGraceMs'
  | 'scheduler'
  | 'journal'
  | 'server'
  | 'tracing'
> & { readonly hostId: string; readonly hostName: string }

export interface HostParts {
  readonly settings: HostSettings
  readonly engine: ServingEngine
  readonly adapters: AdapterPort
  readonly intake: AdapterIntake
  /** Absent = adapters come through the edge only. */
  readonly direct?: DirectStore
  readonly clock: Clock
  /** That the journal is on; the machine's own by default. */
  readonly disk?: Disk
  readonly log: Log
  readonly fetch: typeof globalThis.fetch
  readonly version: string
  readonly randomSeed: () => number
  readonly metrics: HostMetrics
}

/**
 * Why a host ends by itself: an fsync of its journal failed, or a newer start of it has reported to
 * the edge.
 */
export type HostLoss = 'journal_failed' | 'host_epoch_stale'

const HEARTBEAT_INTERVAL_MS = 1000
const HEARTBEAT_TIMEOUT_MS = 3000
const LOSS_TEXT: Readonly<Record<HostLoss, string>> = {
  journal_failed: 'the usage journal has failed: the host ends, its next start recovers',
  host_epoch_stale:
    'another process reports under the id of this host: a newer start of it, or one on a copy of ' +
    'its data directory, which needs an id of its own (NOZZLE_HOST_ID, or remove its host/id)',
}
/** Replies that are written get this long to leave the socket. */
const LINGER_MS = 1000

export class Host {
  readonly metrics: HostMetrics
  readonly scheduler: RequestRunner
  readonly journal: Journal
  readonly outbox: UsageOutbox
  readonly #parts: HostParts
  readonly #tracing: Tracing
  readonly #server: Server
  readonly #edges: readonly EdgeClient[]
  readonly #background = new AbortController()
  #running: Promise<void>[] = []
  #url = ''
  #listeningUs = 0
  /** When an edge last said that the database has heard of this host. */
  #storedUs: number | null = null
  #beats = 0
  #stopping: Promise<void> | null = null
  readonly #grace = new AbortController()
  readonly #lost = Promise.withResolvers<HostLoss>()
  #isLost = false

  constructor(parts: HostParts) {
    const { settings, engine, adapters, clock, log } = parts
    this.#parts = parts
    this.metrics = parts.metrics
    const directory = settings.journalDirectory
    const { disk = nodeDisk } = parts
    const shipped = readShippedCursor(disk, directory, log)
    this.journal = new Journal({
      ...settings.journal,
      directory,
      hostId: settings.hostId,
      clock,
      log,
      disk,
      shippedSegment: shipped.segment,
      onFailed: () => this.#lose('journal_failed'),
    })
    const { recovery } = this.journal
    this.metrics.damagedSegments.inc(recovery.setAside.length)
    this.#edges = this.#createEdgeClients()
    const onShipped = (segment: number): void => this.journal.setShippedSegment(segment)
    this.outbox = new UsageOutbox(
      {
        directory,
        disk,
        hostId: settings.hostId,
        edge: this.#edges.length === 0 ? null : new EdgeFailover(this.#edges),
        metrics: this.metrics,
        clock,
        log,
        durable: () => this.journal.durable,
        onShipped,
      },
      placeCursor(shipped, { disk, directory, recovery, log }),
    )
    this.scheduler = engine.createRunner({
      adapters,
      journal: this.journal,
      metrics: this.metrics,
      clock,
      log,
      limits: settings.scheduler,
      hostId: settings.hostId,
      randomSeed: parts.randomSeed,
    })
    this.#tracing = this.#createTracing()
    this.#server = this.#createServer()
    this.#observe()
  }

  /** Where the edge reaches this host; known once it listens. */
  get url(): string {
    return this.#url
  }

  /** Resolves when the host ends by itself; it stops at once, and the process has to go. */
  get lost(): Promise<HostLoss> {
    return this.#lost.promise
  }

  /** Resolves when requests are taken. Rejects when the port is not to be had. */
  async listen(): Promise<void> {
    const { settings } = this.#parts
    this.#server.listen(settings.port, settings.address)
    await once(this.#server, 'listening')
    const bound = this.#server.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : settings.port
    this.#listeningUs = this.#parts.clock.nowUs()
    this.#url = settings.url ?? `http://${settings.address}:${port}`
    const { signal } = this.#background
    this.#running.push(...this.#heartbeats().map((options) => runHeartbeat(options, signal)))
    this.#running.push(this.outbox.run(signal))
  }

  /** Drains and closes everything; idempotent. Takes the grace and a few seconds at most. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** A heartbeat; each is newer than the one before. */
  status(): Heartbeat {
    const { settings, engine, adapters, clock, version } = this.#parts
    const load = this.scheduler.load()
    const sequences = this.scheduler.sequencesByAdapter()
    this.#beats += 1
    return {
      host_id: settings.hostId,
      host_name: settings.hostName,
      epoch: this.journal.epoch,
      beat: this.#beats,
      uptime_ms: Math.floor((clock.nowUs() - this.#listeningUs) / 1000),
      stored_ago_ms:
        this.#storedUs === null ? null : Math.floor((clock.nowUs() - this.#storedUs) / 1000),
      engine: engine.kind,
      url: this.#url,
      version,
      base_model: engine.baseModel,
      base_digest: engine.baseDigest,
      status: this.scheduler.isServing ? 'ready' : 'draining',
      load: {
        sequences_running: load.sequencesRunning,
        sequences_max: load.sequencesMax,
        queue_depth: load.queueDepth,
        queue_depth_max: load.queueDepthMax,
        slots: load.slots,
        slots_in_use: load.slotsInUse,
        kv_tokens_max: load.kvTokensMax,
        kv_tokens_free: load.kvTokensFree,
        wait_ms: load.waitMs,
      },
      context_length: engine.contextLength,
      adapters: adapters.residency().map(({ digest, tier }) => ({
        digest,
        tier,
        sequences: sequences.get(digest) ?? 0,
      })),
    }
  }

  async #stop(): Promise<void> {
    const { settings, clock, log, engine } = this.#parts
    this.scheduler.startDraining()
    for (const options of this.#heartbeats()) void beat(options)
    const { signal } = this.#grace
    await Promise.race([this.scheduler.idle(), sleep(clock, settings.drainGraceMs, signal)])
    this.#grace.abort()
    await this.scheduler.close()
    await this.#closeServer()
    this.#background.abort()
    await Promise.all(this.#running)
    await this.#tracing.flush()
    const isShipped = this.#syncJournal() && (await this.outbox.flush())
    if (!isShipped) log('warn', 'usage is left in the journal for the next start')
    this.journal.close()
    await engine.close()
  }

  /** A host that stops takes nothing new, whatever the operator wants of it. */
  #obey(wish: HostWish): void {
    if (this.#stopping !== null) return
    const isDraining = wish === 'drain'
    if (isDraining === this.scheduler.isDraining) return
    this.#parts.log('info', isDraining ? 'draining on request' : 'serving again')
    if (isDraining) this.scheduler.startDraining()
    else this.scheduler.stopDraining()
  }

  /** Streams end with an error, billed for what was handed over. */
  #lose(loss: HostLoss): void {
    if (this.#isLost) return
    this.#isLost = true
    this.#parts.log('error', LOSS_TEXT[loss], { code: loss, epoch: this.journal.epoch })
    this.#lost.resolve(loss)
    this.#grace.abort()
    this.stop().catch((error: unknown) => {
      this.#parts.log('error', 'the host did not stop cleanly', { reason: errorText(error) })
    })
  }

  /** False when nobody may rely on what was written last. */
  #syncJournal(): boolean {
    try {
      this.journal.flushSync()
      return true
    } catch (error) {
      this.#parts.log('error', 'the journal is not synced', { reason: errorText(error) })
      return false
    }
  }

  async #closeServer(): Promise<void> {
    const { clock } = this.#parts
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeIdleConnections()
    const cancel = clock.setTimer(LINGER_MS, () => this.#server.closeAllConnections())
    await closed
    cancel()
  }

  #createEdgeClients(): EdgeClient[] {
    const { settings, clock, fetch } = this.#parts
    const { edgeUrls, poolSecret } = settings
    return edgeUrls.map((edgeUrl) => new EdgeClient({ edgeUrl, poolSecret, clock, fetch }))
  }

  /** One for each edge. */
  #heartbeats(): HeartbeatOptions[] {
    const { clock, log } = this.#parts
    return this.#edges.map((edge) => ({
      edge,
      status: () => this.status(),
      metrics: this.metrics,
      clock,
      log,
      intervalMs: HEARTBEAT_INTERVAL_MS,
      timeoutMs: HEARTBEAT_TIMEOUT_MS,
      onEpochStale: () => this.#lose('host_epoch_stale'),
      onWish: (wish) => this.#obey(wish),
      onStored: () => {
        this.#storedUs = clock.nowUs()
      },
    }))
  }

  #createTracing(): Tracing {
    const { settings, version, clock, fetch, log } = this.#parts
    return new Tracing({
      settings: settings.tracing,
      resource: {
        serviceName: 'nozzle-host',
        serviceVersion: version,
        instanceId: settings.hostId,
      },
      fetch,
      nowMs: () => clock.nowMs(),
      monotonicMs: () => clock.nowUs() / 1000,
      onOutcome: (outcome, spans) => this.metrics.spans.inc({ outcome }, spans),
      onChange: (reason) => {
        if (reason === null) log('info', 'spans are collected again')
        else log('warn', 'spans are not collected', { reason })
      },
    })
  }

  #createServer(): Server {
    const { settings, engine, adapters, intake, direct, clock, log } = this.#parts
    return createHostServer({
      scheduler: this.scheduler,
      intake,
      direct: direct ?? null,
      grants: new GrantVerifier(settings.acceptedSecrets, clock),
      metrics: this.metrics,
      tracing: this.#tracing,
      baseModel: engine.baseModel,
      stagingDirectory: settings.stagingDirectory,
      clock,
      log,
      limits: settings.server,
      prefetch: (digest) => adapters.hint(digest),
      status: () => this.status(),
      obey: (wish) => this.#obey(wish),
    })
  }

  #observe(): void {
    const { adapters, engine, version, clock } = this.#parts
    this.metrics.observe({
      build: { version, engine: engine.kind },
      nowUs: () => clock.nowUs(),
      load: () => this.scheduler.load(),
      waitingTenants: () => this.scheduler.waitingTenants(),
      isServing: () => this.scheduler.isServing,
      kvPages: () => this.scheduler.kvPages,
      residency: () => {
        const counts = { slot: 0, ram: 0, disk: 0 }
        for (const { tier } of adapters.residency()) counts[tier] += 1
        return counts
      },
      journalBytes: () => this.journal.bytes,
      journalSpoolRatio: () => this.journal.spoolRatio,
      journalDiskFreeBytes: () => this.journal.diskFreeBytes,
      unshippedEvents: () => this.outbox.countUnshipped(),
      usageLagMs: () => {
        const oldestMs = this.outbox.oldestUnshippedMs()
        return oldestMs === null ? 0 : Math.max(0, clock.nowMs() - oldestMs)
      },
      evictions: () => adapters.evictions,
      unusedSwapUs: () => adapters.unusedSwapUs,
    })
  }
}
