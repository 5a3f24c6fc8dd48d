/**
 * A PEFT adapter on disk, as `save_pretrained` writes it: its two files, found or named as missing.
 */
import { existsSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { CliError } from './cli-error.ts'

export interface PeftFiles {
  readonly directory: string
  readonly configPath: string
  readonly weightsPath: string
  /** Of both files. */
  readonly bytes: number
}

/** Throws `not_found` or, for a pickle, `refused`. */
export function findPeftFiles(path: string): PeftFiles {
  const directory = resolve(path)
  if (!existsSync(directory)) throw new CliError('not_found', `${directory} does not exist`)
  const configPath = join(directory, 'adapter_config.json')
  const weightsPath = join(directory, 'adapter_model.safetensors')
  if (!existsSync(configPath)) {
    throw new CliError(
      'not_found',
      `${directory} holds no adapter_config.json`,
      'Name the directory that `model.save_pretrained(...)` of PEFT wrote.',
    )
  }
  if (!existsSync(weightsPath)) {
    if (existsSync(join(directory, 'adapter_model.bin'))) {
      throw new CliError(
        'refused',
        'adapter_model.bin is a pickle, which can run code when it is read',
        'Save the adapter again with safe_serialization=True.',
      )
    }
    throw new CliError('not_found', `${directory} holds no adapter_model.safetensors`)
  }
  const bytes = statSync(configPath).size + statSync(weightsPath).size
  return { directory, configPath, weightsPath, bytes }
}
