/**
 * Whom this process connects to: every `connect` of a TCP socket, with the name or address that was
 * asked for, also where nobody answers. fetch, undici, http, tls and pg all go through it.
 */
import { Socket } from 'node:net'

export interface EgressRecorder {
  /** `host:port`, or the path of a local socket; each once. */
  readonly targets: ReadonlySet<string>
  stop(): void
}

export function recordEgress(): EgressRecorder {
  const targets = new Set<string>()
  const { connect } = Socket.prototype
  Socket.prototype.connect = function recorded(this: Socket, ...args: unknown[]) {
    targets.add(targetOf(args))
    return Reflect.apply(connect, this, args)
  } as typeof connect
  return {
    targets,
    stop() {
      Socket.prototype.connect = connect
    },
  }
}

/** Node hands its own calls on as one list of options and callback. */
function targetOf([first, second]: readonly unknown[]): string {
  const asked: unknown = Array.isArray(first) ? first[0] : first
  if (typeof asked !== 'object' || asked === null)
    return `${String(second ?? 'localhost')}:${asked}`
  if ('path' in asked && typeof asked.path === 'string') return asked.path
  const host = 'host' in asked && asked.host ? String(asked.host) : 'localhost'
  return `${host}:${'port' in asked ? String(asked.port) : '?'}`
}
