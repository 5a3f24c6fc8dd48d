/**
 * How far an upload, a download or a conversion is: a bar that is drawn over itself on a terminal,
 * a line for every tenth elsewhere.
 */
import { formatBytes, type Output } from './output.ts'

export interface Progress {
  /** So many more bytes have arrived. */
  add(bytes: number): void
  /** Over, well or not: leaves the line clean. */
  end(): void
}

export type StartProgress = (bytesTotal: number, bytesDone?: number) => Progress

/** Smaller uploads are over before anybody wonders. */
const NOTED_BYTES_MIN = 16_000_000
const BAR_CELLS = 24
const REDRAW_MS = 100
/** Before that a rate says nothing. */
const RATE_MS_MIN = 1000

export function progressOn({ redraw, note }: Pick<Output, 'redraw' | 'note'>): StartProgress {
  return redraw === null ? noteProgress(note) : drawProgress(redraw, () => performance.now())
}

/** Tells whoever waits for an answer that it goes on, and for how long by now; returns the end. */
export function startWaiting(
  { redraw, note }: Pick<Output, 'redraw' | 'note'>,
  what: string,
): () => void {
  if (redraw === null) {
    note(`  ${what}`)
    return () => {}
  }
  const beganMs = performance.now()
  const draw = (): void => {
    redraw(`  ${what}  ${Math.floor((performance.now() - beganMs) / 1000)} s`)
  }
  draw()
  const timer = setInterval(draw, REDRAW_MS)
  return () => {
    clearInterval(timer)
    redraw('')
  }
}

export function noteProgress(note: (text: string) => void): StartProgress {
  return (bytesTotal, bytesDone = 0) => {
    let done = bytesDone
    let tenthsShown = Math.floor((done / bytesTotal) * 10)
    return {
      add(bytes) {
        done += bytes
        const tenths = Math.min(10, Math.floor((done / bytesTotal) * 10))
        const isNews = tenths > tenthsShown && bytesTotal >= NOTED_BYTES_MIN
        if (isNews) note(`  ${tenths * 10}% of ${formatBytes(bytesTotal)}`)
        tenthsShown = Math.max(tenths, tenthsShown)
      },
      end() {},
    }
  }
}

export function drawProgress(
  redraw: (text: string) => unknown,
  nowMs: () => number,
): StartProgress {
  return (bytesTotal, bytesDone = 0) => {
    const beganMs = nowMs()
    let done = bytesDone
    let drawnMs = Number.NEGATIVE_INFINITY
    const draw = (): void => {
      drawnMs = nowMs()
      const elapsedMs = drawnMs - beganMs
      redraw(formatBar(done, bytesTotal, done - bytesDone, elapsedMs))
    }
    draw()
    return {
      add(bytes) {
        done += bytes
        if (nowMs() - drawnMs >= REDRAW_MS || done >= bytesTotal) draw()
      },
      end() {
        redraw('')
      },
    }
  }
}

/** @param sentBytes of them in this run, which took `elapsedMs`. */
export function formatBar(
  doneBytes: number,
  totalBytes: number,
  sentBytes: number,
  elapsedMs: number,
): string {
  const share = Math.min(1, doneBytes / totalBytes)
  const cells = Math.floor(share * BAR_CELLS)
  const bar = '█'.repeat(cells) + '░'.repeat(BAR_CELLS - cells)
  const percent = `${Math.floor(share * 100)}%`.padStart(4)
  const amount = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
  return `  ${bar}${percent}  ${amount}${formatRate(totalBytes - doneBytes, sentBytes, elapsedMs)}`
}

function formatRate(leftBytes: number, sentBytes: number, elapsedMs: number): string {
  if (elapsedMs < RATE_MS_MIN || sentBytes === 0) return ''
  const perSecond = sentBytes / (elapsedMs / 1000)
  const seconds = Math.ceil(leftBytes / perSecond)
  const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
  return `  ${formatBytes(Math.round(perSecond))}/s  ${left} left`
}
