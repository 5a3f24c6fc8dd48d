/** The sound adapter that bad ones are made of, and uploads. */
import type {
  AdapterParts,
  TensorPart,
} from '../../gpu-host/adapters/test/support/adapter-files.ts'
import type { UploadInput, World } from './bad-case.ts'

const NAMES = { config: 'adapter_config.json', weights: 'adapter_model.safetensors' }

/** Uploads have a name of their own: what is legal must not take the good model's place. */
export const UPLOADED_MODEL = 'uploaded'

export function upload(
  { weights }: World,
  config: string | (() => UploadInput['config'] extends () => infer T ? T : never),
  ofWeights: UploadInput['weights'] | null = null,
  fileNames = NAMES,
): UploadInput {
  return {
    kind: 'upload',
    model: UPLOADED_MODEL,
    config: typeof config === 'string' ? () => config : config,
    weights: ofWeights ?? (() => weights),
    fileNames,
  }
}

export function partsOf({ config, weights }: World): AdapterParts {
  const file = Buffer.from(weights)
  const dataStart = 8 + Number(file.readBigUInt64LE())
  const entries = Object.entries<{
    dtype: string
    shape: number[]
    data_offsets: [number, number]
  }>(JSON.parse(file.toString('utf8', 8, dataStart)))
  const tensors = entries.map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ]): TensorPart => {
      return { name, dtype, shape, bytes: file.subarray(dataStart + begin, dataStart + end) }
    },
  )
  return { config: JSON.parse(config), tensors }
}
