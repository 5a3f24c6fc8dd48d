/**
 * What the fault bench and its processes tell each other over their IPC channel: where a process is
 * to die, and what a host has handed over. A point is armed once and fires once; a process that
 * starts anew has none.
 */
import { z } from 'zod'

export const killPoint = z.discriminatedUnion('at', [
  z.object({
    at: z.literal('journal_write'),
    /** 1 = the next write to a journal segment. */
    nth: z.int().min(1),
    /** Part of the write's bytes that reach the file before the end, 0 … 1. */
    share: z.number().min(0).max(1),
  }),
  z.object({
    at: z.literal('ingest'),
    /** 1 = the next statement that stores usage events. */
    nth: z.int().min(1),
    /** Not yet sent; sent and its outcome unknown; committed and not yet acknowledged. */
    phase: z.enum(['before', 'sent', 'committed']),
    /** Who dies: the edge that runs the statement, or the PostgreSQL process that answers it. */
    victim: z.enum(['edge', 'backend']),
  }),
])
export type KillPoint = z.infer<typeof killPoint>

const armMessage = z.object({ type: z.literal('arm'), point: killPoint.nullable() })

/** What the bench sends; null disarms. */
export function toArmMessage(point: KillPoint | null): z.infer<typeof armMessage> {
  return { type: 'arm', point }
}

/** Calls `arm` for each message of the bench to this process. */
export function onArmed(arm: (point: KillPoint | null) => void): void {
  process.on('message', (message) => {
    const parsed = armMessage.safeParse(message)
    if (parsed.success) arm(parsed.data.point)
  })
}

export function dieNow(): void {
  process.kill(process.pid, 'SIGKILL')
}

export const handOverMessage = z.object({
  type: z.literal('handed_over'),
  request_id: z.string(),
  tokens: z.int().min(0),
})

/** What a host sends when a stream's connection has ended. */
export function toHandOverMessage(
  requestId: string,
  tokens: number,
): z.infer<typeof handOverMessage> {
  return { type: 'handed_over', request_id: requestId, tokens }
}
