/**
 * Uploads that go straight from a client to the pool's store: this host signs where each part may
 * be put, and when all are there it fetches, proves, converts and stores the adapter as any other.
 * Everything is kept under the tenant of the grant: nobody can name what another has sent.
 */
import { join } from 'node:path'
import type { AdapterIntake } from './adapter-upload.ts'
import type { StagingArea } from './adapters/s3-staging.ts'
import type { ServerLimits } from './config.ts'
import { errorCodeOf, HostError } from './errors.ts'
import type { AdapterReceipt, GrantClaims, UploadFiles, UploadPlan } from './protocol.ts'
import type { UploadPlaces } from './upload-places.ts'

export interface NamingIntake extends AdapterIntake {
  /** What these two files are called once they are an adapter of this host's base model. */
  digestOf(configSha256: string, weightsSha256: string): string
  /** null = not stored. */
  find(digest: string): Promise<AdapterReceipt | null>
}

export interface DirectStore {
  readonly staging: StagingArea
  readonly intake: NamingIntake
}

export interface DirectUploadsDeps {
  /** null = the store takes nothing directly. */
  readonly direct: DirectStore | null
  readonly places: UploadPlaces
  readonly limits: ServerLimits
}

export class DirectUploads {
  readonly #deps: DirectUploadsDeps

  constructor(deps: DirectUploadsDeps) {
    this.#deps = deps
  }

  async plan(claims: GrantClaims, files: UploadFiles): Promise<UploadPlan> {
    const { direct, limits } = this.#deps
    if (direct === null) return { mode: 'through_edge' }
    assertSize('config', files.config.bytes, limits.adapterConfigBytesMax)
    assertSize('weights', files.weights.bytes, limits.adapterWeightsBytesMax)
    const digest = direct.intake.digestOf(files.config.sha256, files.weights.sha256)
    return { mode: 'direct', digest, ...(await direct.staging.plan(tenantOf(claims), files)) }
  }

  /**
   * A grant that names the adapter says that the tenant has had it before: then it need not be sent
   * again. Rejects with `upload_incomplete` when parts are missing.
   */
  async complete(claims: GrantClaims, files: UploadFiles): Promise<AdapterReceipt> {
    const { direct, places } = this.#deps
    if (direct === null) {
      throw new HostError('invalid_request', 'this pool has no store that files are sent to')
    }
    const { staging, intake } = direct
    const tenantId = tenantOf(claims)
    const digest = intake.digestOf(files.config.sha256, files.weights.sha256)
    if (claims.adapter_digest !== null) {
      if (claims.adapter_digest !== digest) {
        throw new HostError('invalid_request', 'the files are not those of the adapter', {
          param: 'digest',
        })
      }
      const known = await intake.find(digest)
      if (known !== null) return known
    }
    return places.run(tenantId, async (directory) => {
      const paths = {
        configPath: join(directory, 'config'),
        weightsPath: join(directory, 'weights'),
      }
      await staging.fetch(tenantId, files.config, paths.configPath)
      await staging.fetch(tenantId, files.weights, paths.weightsPath)
      const receipt = await intake.install(paths).catch(async (error: unknown) => {
        // Files at fault are of no further use; others wait for the next try.
        if (errorCodeOf(error) === 'adapter_invalid') await staging.discard(tenantId, files)
        throw error
      })
      await staging.discard(tenantId, files)
      return receipt
    })
  }
}

function tenantOf({ tenant_id }: GrantClaims): string {
  // It becomes a part of a key; a slash would lead to another's.
  if (tenant_id !== null && /^[A-Za-z0-9_-]+$/.test(tenant_id)) return tenant_id
  throw new HostError('grant_mismatch', 'the grant is for no tenant', { param: 'tenant_id' })
}

function assertSize(name: string, bytes: number, bytesMax: number): void {
  if (bytes <= bytesMax) return
  const message = `${name} may have at most ${bytesMax} bytes`
  throw new HostError('payload_too_large', message, { param: `files.${name}.bytes` })
}
