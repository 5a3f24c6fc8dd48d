/**
 * Preloaded into a host process of the fault bench: counts the tokens of the chunks that it hands
 * to each connection, apart from the host's own books, and tells the bench when the connection
 * ends. What an edge held when it died shows in no other way.
 */
import { ServerResponse } from 'node:http'
import { type GenerateEvent, generateEvent } from '../../gpu-host/protocol.ts'
import { toHandOverMessage } from './kill-point.ts'

const { write } = ServerResponse.prototype
const handedOver = new WeakMap<ServerResponse, { requestId: string; tokens: number }>()

function countAndWrite(this: ServerResponse, ...args: unknown[]): unknown {
  const json = /^data: (.*)\n\n$/s.exec(String(args[0]))?.[1]
  if (json !== undefined) count(this, generateEvent.parse(JSON.parse(json)))
  return Reflect.apply(write, this, args)
}

function count(response: ServerResponse, event: GenerateEvent): void {
  if (event.type === 'accepted') {
    const stream = { requestId: event.request_id, tokens: 0 }
    handedOver.set(response, stream)
    response.once('close', () => {
      if (process.connected) process.send?.(toHandOverMessage(stream.requestId, stream.tokens))
    })
  }
  const stream = handedOver.get(response)
  if (event.type === 'chunk' && stream !== undefined) stream.tokens += event.tokens
}

Object.assign(ServerResponse.prototype, { write: countAndWrite })
