/** Refusals of what a tenant does not have: another's model looks the same. */
import { EdgeError } from '../errors.ts'

export function noModel(name: string): EdgeError {
  return new EdgeError('not_found', `There is no model "${name}".`)
}

export function noVersion(name: string, version: number): EdgeError {
  return new EdgeError('not_found', `There is no version ${version} of "${name}".`)
}
