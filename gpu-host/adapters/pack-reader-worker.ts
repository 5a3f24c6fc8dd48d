/**
 * The thread behind pack-reader.ts: one pack after the other is read and hashed here, so that no
 * hash ever runs on the thread that serves streams. The payload goes back without a copy.
 */
import { parentPort } from 'node:worker_threads'
import { errorCodeOf } from '../errors.ts'
import { errorText } from '../log.ts'
import { PackFileError, readCheckedPack } from './pack-file.ts'
import type { PackReadReply, PackReadRequest } from './pack-reader.ts'

async function read(request: PackReadRequest): Promise<PackReadReply> {
  const { path, digest, knownCrc32 } = request
  try {
    return { ok: true, ...(await readCheckedPack(path, digest, knownCrc32)) }
  } catch (error) {
    if (error instanceof PackFileError) return { ok: false, damage: error.reason }
    return { ok: false, code: errorCodeOf(error), reason: errorText(error) }
  }
}

parentPort?.on('message', (request: PackReadRequest) => {
  void read(request).then((reply) => {
    const moved = reply.ok ? [reply.image.payload.buffer as ArrayBuffer] : []
    parentPort?.postMessage(reply, moved)
  })
})
