/**
 * What must exist before a pool, a test or a benchmark can run: the native engine, a base model.
 */
import { ensureNativeBuilt } from '../../native/build.ts'
import { ensureCudaLibrary } from '../../native/cuda-library.ts'
import { CliError, toCliError } from '../lib/cli-error.ts'
import { type BaseModelFile, ensureBaseModel } from './base-model.ts'

type Note = (text: string) => void

/** Throws `missing_prerequisite` with the command that installs what is missing. */
export async function prepareNative(note: Note): Promise<void> {
  try {
    await ensureNativeBuilt(note)
  } catch (error) {
    throw toCliError(error, 'missing_prerequisite')
  }
}

export const DEVICES = ['auto', 'cpu', 'cuda'] as const
export type Device = (typeof DEVICES)[number]

/**
 * Fetches what the device needs beside the engine, where it is wanted. Throws
 * `missing_prerequisite` when `cuda` was asked for and cannot be had.
 */
export function prepareDevice(device: Device, note: Note): void {
  try {
    ensureCudaLibrary({ device, note })
  } catch (error) {
    throw toCliError(error, 'missing_prerequisite')
  }
}

/** For runs that can do without: the reason instead of the model. Never for a digest mismatch. */
export async function tryBaseModel(
  source: string | undefined,
  modelsDir: string,
  note: Note,
): Promise<BaseModelFile | { readonly missing: string }> {
  try {
    return await ensureBaseModel(source, modelsDir, note)
  } catch (error) {
    const isAbsent =
      error instanceof CliError && ['missing_prerequisite', 'unavailable'].includes(error.reason)
    if (isAbsent) return { missing: error.message }
    throw error
  }
}
