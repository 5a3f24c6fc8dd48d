/** Paths as the person who typed them meant them. */
import { join, resolve } from 'node:path'
import type { CommandContext } from './command.ts'

/**
 * Absolute. npm runs a script in the folder of its package.json and leaves the caller's in
 * INIT_CWD. That holds for the scripts of this checkout alone: those of another project mean their
 * own folder.
 */
export function callerPath(
  { env, projectRoot }: Pick<CommandContext, 'env' | 'projectRoot'>,
  path: string,
): string {
  const isOwnScript = env.npm_package_json === join(projectRoot, 'package.json')
  return resolve((isOwnScript && env.INIT_CWD) || process.cwd(), path)
}
