/** All fixed bad inputs, in the order of their classes. */
import { adapterConfigs } from './adapter-configs.ts'
import type { BadCase, World } from './bad-case.ts'
import { controlApi } from './control-api.ts'
import { disguisedFiles } from './disguised-files.ts'
import { grammars } from './grammars.ts'
import { httpFraming } from './http-framing.ts'
import { jsonBodies } from './json-bodies.ts'
import { numericFields } from './numeric-fields.ts'
import { promptSizes } from './prompt-sizes.ts'
import { weightsFiles } from './weights-files.ts'

export function createCorpus(world: World): BadCase[] {
  return [
    jsonBodies,
    numericFields,
    promptSizes,
    grammars,
    httpFraming,
    weightsFiles,
    adapterConfigs,
    disguisedFiles,
    controlApi,
  ].flatMap((create) => create(world))
}
