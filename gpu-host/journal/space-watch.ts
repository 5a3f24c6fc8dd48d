/**
 * The alarms about space: a spool whose events are not collected, a disk that fills up. Each is
 * logged once when its bound is crossed, and once when there is room again.
 */
import type { Log, LogFields } from '../log.ts'

/** Of the spool's cap: the alarm is raised from here on … */
const SPOOL_RAISE_RATIO = 0.8
/** … and taken back below this; a gap, so that a value at the bound does not fill the log. */
const SPOOL_CLEAR_RATIO = 0.75
const DISK_CLEAR_FACTOR = 1.1
const INTERVAL_MS = 1000

export interface SpaceReadings {
  /** Events not acknowledged, as a share of the spool's cap. */
  readonly spoolRatio: number
  /** Asked for only where there is a bound. */
  readonly diskFreeBytes: number
}

export class SpaceWatch {
  readonly #log: Log
  readonly #freeBytesMin: number
  #lookedMs = Number.NEGATIVE_INFINITY
  #isSpoolAlarmed = false
  #isDiskAlarmed = false

  /** `freeBytesMin`: 0 = no bound. */
  constructor(log: Log, freeBytesMin: number) {
    this.#log = log
    this.#freeBytesMin = freeBytesMin
  }

  /** Cheap to call often: looks once a second. */
  look(nowMs: number, readings: SpaceReadings): void {
    if (Math.abs(nowMs - this.#lookedMs) < INTERVAL_MS) return
    this.#lookedMs = nowMs
    this.#lookAtSpool(readings.spoolRatio)
    if (this.#freeBytesMin > 0) this.#lookAtDisk(readings.diskFreeBytes)
  }

  #lookAtSpool(ratio: number): void {
    const fields = { percent: Math.round(ratio * 100) }
    if (!this.#isSpoolAlarmed && ratio >= SPOOL_RAISE_RATIO) {
      this.#isSpoolAlarmed = true
      this.#log('error', 'usage journal nears its cap: its events are not collected', fields)
    } else if (this.#isSpoolAlarmed && ratio < SPOOL_CLEAR_RATIO) {
      this.#isSpoolAlarmed = false
      this.#log('info', 'usage journal is collected again', fields)
    }
  }

  #lookAtDisk(freeBytes: number): void {
    const bound = this.#freeBytesMin
    const fields: LogFields = { free_bytes: freeBytes, bound_bytes: bound }
    if (!this.#isDiskAlarmed && freeBytes < bound) {
      this.#isDiskAlarmed = true
      this.#log('error', 'the disk of the usage journal is nearly full', fields)
    } else if (this.#isDiskAlarmed && freeBytes > bound * DISK_CLEAR_FACTOR) {
      this.#isDiskAlarmed = false
      this.#log('info', 'the disk of the usage journal has room again', fields)
    }
  }
}
