/**
 * PGlite's Node directory, made durable. As shipped, PGlite starts with fsync off, and its file
 * layer would ignore one: a commit survives a dead process but not a dead machine. This layer
 * passes fsync on to the operating system, and START_PARAMS turn it on.
 */
import { fsyncSync } from 'node:fs'
import { PGlite } from '@electric-sql/pglite'
import { NodeFS } from '@electric-sql/pglite/nodefs'

type FileSystemOptions = Awaited<ReturnType<NodeFS['init']>>['emscriptenOpts']
type PgliteModule = Parameters<NonNullable<FileSystemOptions['preRun']>[number]>[0]

/**
 * The part of Emscripten's Node file system used here; its own package of types is not installed.
 */
interface NodeFileSystem {
  readonly stream_ops: Record<'fsync', (stream: { readonly nfd?: number }) => number>
  /** Turns a Node error into the errno that PostgreSQL expects. */
  tryFSOperation<T>(operation: () => T): T
}

/**
 * Later settings win over PGlite's `-F`. fdatasync, the default method, never reaches the layer.
 */
export const START_PARAMS: readonly string[] = [
  ...PGlite.defaultStartParams,
  ...['-c', 'fsync=on'],
  ...['-c', 'wal_sync_method=fsync'],
]

export class DurableDirectory extends NodeFS {
  override async init(
    pglite: PGlite,
    options: FileSystemOptions,
  ): Promise<{ emscriptenOpts: FileSystemOptions }> {
    const { emscriptenOpts } = await super.init(pglite, options)
    const preRun = [...(emscriptenOpts.preRun ?? []), installFsync]
    return { emscriptenOpts: { ...emscriptenOpts, preRun } }
  }
}

function installFsync(module: PgliteModule): void {
  const files: NodeFileSystem = module.NODEFS
  files.stream_ops.fsync = ({ nfd }) =>
    files.tryFSOperation(() => {
      // A directory has no descriptor here; nor has PGlite any way to ask for one.
      if (nfd !== undefined) fsyncSync(nfd)
      return 0
    })
}
