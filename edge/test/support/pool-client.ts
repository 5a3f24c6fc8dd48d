/** What an operator and a tenant do to an edge, over HTTP, wherever it runs. */
import OpenAI, { type ClientOptions } from 'openai'

export interface TestTenant {
  readonly id: string
  readonly name: string
  readonly key: string
  readonly keyId: string
}

export class PoolClient {
  readonly url: string
  readonly operatorKey: string

  constructor(url: string, operatorKey: string) {
    this.url = url
    this.operatorKey = operatorKey
  }

  call(method: string, path: string, key: string, body?: unknown): Promise<Response> {
    return fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  }

  /** As the operator; throws on anything but success. */
  async admin<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.call(method, path, this.operatorKey, body)
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
    return (await response.json()) as T
  }

  async addTenant(scopes?: readonly string[]): Promise<TestTenant> {
    const name = `tenant-${crypto.randomUUID().slice(0, 8)}`
    const { id } = await this.admin<{ id: string }>('POST', '/v1/tenants', { name })
    const key = await this.admin<{ key: string; id: string }>('POST', `/v1/tenants/${name}/keys`, {
      ...(scopes && { scopes }),
    })
    return { id, name, key: key.key, keyId: key.id }
  }

  /** Uploads weights as a new version. */
  upload(
    tenant: { readonly name: string },
    model: string,
    weights: string,
    {
      key = this.operatorKey,
      config = {},
      query = '',
    }: { key?: string; config?: object; query?: string } = {},
  ): Promise<Response> {
    const form = new FormData()
    form.append('config', new Blob([JSON.stringify(config)]), 'adapter_config.json')
    form.append('weights', new Blob([weights]), 'adapter_model.safetensors')
    return fetch(`${this.url}/v1/tenants/${tenant.name}/models/${model}/versions${query}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: form,
    })
  }

  /** Uploads a whole PEFT adapter; throws when it is refused. */
  async deployPeft(
    tenant: { readonly name: string },
    adapter: {
      readonly name: string
      readonly config: string
      readonly weights: Uint8Array<ArrayBuffer>
    },
  ): Promise<void> {
    const form = new FormData()
    form.append('config', new Blob([adapter.config]), 'adapter_config.json')
    form.append('weights', new Blob([adapter.weights]), 'adapter_model.safetensors')
    const path = `/v1/tenants/${tenant.name}/models/${adapter.name}/versions`
    const headers = { authorization: `Bearer ${this.operatorKey}` }
    const response = await fetch(this.url + path, { method: 'POST', headers, body: form })
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
    await response.body?.cancel()
  }

  async deploy(tenant: TestTenant, model: string, weights: string): Promise<void> {
    const response = await this.upload(tenant, model, weights)
    if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`)
    await response.body?.cancel()
  }

  /** The official SDK, without its own retries. */
  sdk(apiKey: string, path = '/v1', options: ClientOptions = {}): OpenAI {
    return new OpenAI({ apiKey, baseURL: this.url + path, maxRetries: 0, ...options })
  }
}
