/**
 * Where packs are kept for good, as NOZZLE_STORE and its companions name it: a directory, or a
 * bucket of an S3-compatible store. Pure; the secret of a bucket is never part of a message.
 */
import { resolve } from 'node:path'

export interface S3Settings {
  readonly bucket: string
  /** Empty, or text that ends with "/". */
  readonly prefix: string
  /** Origin, and path where the store does not sit at the root; without a "/" at the end. */
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** null = the keys last. */
  readonly sessionToken: string | null
  /** The bucket stands in the path, not in the host name. */
  readonly isPathStyle: boolean
}

export type StoreAddress =
  | { readonly kind: 'directory'; readonly directory: string }
  | { readonly kind: 's3'; readonly s3: S3Settings }

export interface StoreVariables {
  readonly NOZZLE_STORE?: string | undefined
  readonly NOZZLE_STORE_ENDPOINT?: string | undefined
  readonly NOZZLE_STORE_REGION: string
  readonly NOZZLE_STORE_ACCESS_KEY_ID?: string | undefined
  readonly NOZZLE_STORE_SECRET_ACCESS_KEY?: string | undefined
  readonly NOZZLE_STORE_SESSION_TOKEN?: string | undefined
  readonly NOZZLE_STORE_PATH_STYLE?: 'true' | 'false' | undefined
}

const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([A-Za-z0-9._/-]*))?$/

/**
 * @param fallback directory where NOZZLE_STORE names none. Throws an Error that names the variable
 * and the fix.
 */
export function parseStoreAddress(variables: StoreVariables, fallback: string): StoreAddress {
  const address = variables.NOZZLE_STORE
  if (address === undefined) return { kind: 'directory', directory: fallback }
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(address)) {
    return { kind: 'directory', directory: resolve(address) }
  }
  const [, bucket, path = ''] = S3_URL.exec(address) ?? []
  if (bucket === undefined) {
    throw new Error(
      'NOZZLE_STORE: must be a directory, or s3://<bucket>[/<prefix>] of letters, digits, ".", "_", "-" and "/"',
    )
  }
  const prefix = toPrefix(path.split('/').filter((part) => part !== ''))
  return { kind: 's3', s3: { ...toS3Settings(variables), bucket, prefix } }
}

function toPrefix(parts: readonly string[]): string {
  if (parts.includes('.') || parts.includes('..')) {
    throw new Error('NOZZLE_STORE: "." and ".." are no parts of a prefix')
  }
  return parts.map((part) => `${part}/`).join('')
}

function toS3Settings(variables: StoreVariables): Omit<S3Settings, 'bucket' | 'prefix'> {
  const { NOZZLE_STORE_ENDPOINT: endpoint, NOZZLE_STORE_REGION: region } = variables
  const pathStyle = variables.NOZZLE_STORE_PATH_STYLE
  return {
    endpoint: (endpoint ?? `https://s3.${region}.amazonaws.com`).replace(/\/+$/, ''),
    region,
    accessKeyId: required(variables, 'NOZZLE_STORE_ACCESS_KEY_ID'),
    secretAccessKey: required(variables, 'NOZZLE_STORE_SECRET_ACCESS_KEY'),
    sessionToken: variables.NOZZLE_STORE_SESSION_TOKEN ?? null,
    // What R2 and MinIO take at their own addresses; AWS wants the bucket in the name.
    isPathStyle: pathStyle === undefined ? endpoint !== undefined : pathStyle === 'true',
  }
}

function required(
  variables: StoreVariables,
  name: 'NOZZLE_STORE_ACCESS_KEY_ID' | 'NOZZLE_STORE_SECRET_ACCESS_KEY',
): string {
  const value = variables[name]
  if (value !== undefined) return value
  throw new Error(`${name}: is needed where NOZZLE_STORE is a bucket`)
}
