/** Planted bugs of what reads inputs that nobody vouches for: files, bodies, schemas, uploads. */
import type { PlantedBug } from './planted-bug.ts'

const UNTRUSTED_FILES = ['gpu-host/adapters/untrusted-files.test.ts']
const INTAKE = ['gpu-host/adapters/adapter-intake.test.ts']

const FILE_BUGS: readonly PlantedBug[] = [
  {
    name: 'header-length-uncapped',
    harm: 'a file of a gigabyte that says it is all header is read into memory',
    file: 'gpu-host/adapters/safetensors-reader.ts',
    from: 'if (headerBytes > BigInt(HEADER_BYTES_MAX))',
    to: 'if (headerBytes > 2n ** 62n)',
    tests: INTAKE,
  },
  {
    name: 'overlap-allowed',
    harm: 'two readers of one file see two adapters',
    file: 'gpu-host/adapters/safetensors-reader.ts',
    from: "    if (position < expected) throw adapterInvalid('weights', name, 'overlaps another tensor')\n",
    to: '',
    tests: INTAKE,
  },
  {
    name: 'pickle-magic-unchecked',
    harm: 'who uploads a pickle is told of a broken header, and tries on',
    file: 'gpu-host/adapters/safetensors-reader.ts',
    from: '  checkIsNoPickle(prefix)\n',
    to: '',
    tests: UNTRUSTED_FILES,
  },
  {
    name: 'zip-polyglot-taken',
    harm: 'a file that torch.load would run is stored as an adapter',
    file: 'gpu-host/adapters/safetensors-reader.ts',
    from: '  await checkIsNoZip(handle, size)\n',
    to: '',
    tests: UNTRUSTED_FILES,
  },
  {
    name: 'nan-scan-skipped',
    harm: 'one weight that is no number poisons every answer of the adapter',
    file: 'gpu-host/adapters/half-float.ts',
    from: 'if (magnitude > F32_HALF_MAX) return',
    to: 'if (magnitude > 0x7fff_ffff) return',
    tests: ['gpu-host/adapters/half-float.test.ts', ...INTAKE],
  },
  {
    name: 'file-depth-unlimited',
    harm: 'a config of brackets is answered with 500, since printing it runs out of stack',
    file: 'gpu-host/adapters/strict-json.ts',
    from: 'if (isTooDeep(bytes, DEPTH_MAX)) {',
    to: 'if (isTooDeep(bytes, 1e9)) {',
    tests: UNTRUSTED_FILES,
  },
  {
    name: 'duplicate-key-taken',
    harm: 'a checker reads the first of two ranks, the host the second',
    file: 'gpu-host/adapters/strict-json.ts',
    from: 'if (keys?.has(key)) return',
    to: 'if (keys?.has(key) === null) return',
    tests: UNTRUSTED_FILES,
  },
  {
    name: 'file-proto-taken',
    harm: 'fields come from a prototype that no check looks at',
    file: 'gpu-host/adapters/strict-json.ts',
    from: "if (key === '__proto__') return",
    to: "if (key === 'prototype') return",
    tests: UNTRUSTED_FILES,
  },
  {
    name: 'states-entered-twice',
    harm: 'a pattern of nested repetitions holds the host for ever',
    file: 'gpu-host/adapters/module-pattern.ts',
    from: '  const reached = new Set(from)\n',
    to: `  const reached = Object.assign([...from], {
    add: (state: State) => reached.push(state),
    has: (state: State) => reached.includes(state),
  }) as unknown as Set<State>
`,
    tests: ['gpu-host/adapters/module-pattern.test.ts'],
  },
]

const REQUEST_BUGS: readonly PlantedBug[] = [
  {
    name: 'body-proto-taken',
    harm: 'fields come from a prototype that no check looks at',
    file: 'edge/read-body.ts',
    from: '  if (param === null) return value\n',
    to: '  if (param !== undefined) return value\n',
    tests: ['edge/openai/untrusted-requests.test.ts'],
  },
  {
    name: 'stored-text-unchecked',
    harm: 'a NUL in a name is answered with 500, and wakes somebody',
    file: 'edge/errors.ts',
    from: '  if (isBadText(error)) {',
    to: '  if (isBadText(error) && error === null) {',
    tests: ['edge/test/admin.test.ts'],
  },
  {
    name: 'grammar-bytes-unlimited',
    harm: 'a schema becomes megabytes of grammar, which every host refuses',
    file: 'edge/openai/json-schema/grammar-rules.ts',
    from: 'if (this.#bytes > GRAMMAR_BYTES_MAX)',
    to: 'if (this.#bytes > GRAMMAR_BYTES_MAX * 1e6)',
    tests: ['edge/openai/json-schema/schema-grammar.test.ts'],
  },
  {
    name: 'schemas-unlimited',
    harm: 'one definition under a thousand spellings holds an edge for minutes',
    file: 'edge/openai/json-schema/schema-grammar.ts',
    from: 'if (this.#schemas > SCHEMAS_MAX) {',
    to: 'if (this.#schemas > SCHEMAS_MAX * 1e6) {',
    tests: ['edge/openai/json-schema/schema-grammar.test.ts'],
  },
  {
    name: 'error-quotes-all',
    harm: 'a field name of megabytes comes back twice, and goes to the log',
    file: 'edge/errors.ts',
    from: 'const words = cut(message, ERROR_MESSAGE_CHARACTERS_MAX)',
    to: 'const words = message',
    tests: ['edge/openai/untrusted-requests.test.ts'],
  },
]

const ADAPTER_BUGS: readonly PlantedBug[] = [
  {
    name: 'overflow-served',
    harm: 'an adapter that overflows answers with token 0 for ever, and is paid for',
    file: 'gpu-host/scheduler/sequence.ts',
    from: '  if (isNonFinite) {\n',
    to: '  if (isNonFinite && isStuck) {\n',
    tests: ['gpu-host/scheduler/draw-error.test.ts'],
  },
  {
    name: 'overflow-blamed-on-host',
    harm: 'three requests of one tenant take a host out of the pool',
    file: 'edge/pool/host-failure.ts',
    from: "const isHostSuspect = hostCode === 'engine_failed'",
    to: "const isHostSuspect = hostCode === 'engine_failed' || hostCode === 'logits_not_finite'",
    tests: ['edge/pool/host-choice.test.ts'],
  },
  {
    name: 'last-upload-place-taken',
    harm: 'one tenant that uploads slowly keeps all others from deploying',
    file: 'gpu-host/upload-places.ts',
    from: 'own >= Math.max(1, this.#countMax - 1)',
    to: 'own > this.#countMax',
    tests: ['gpu-host/upload-places.test.ts'],
  },
  {
    name: 'upload-calls-uncounted',
    harm: 'a tenant keeps hosts converting files that are refused',
    file: 'edge/routes/models.ts',
    from: '    deps.uploadRate.take(tenant.id)\n',
    to: '',
    tests: ['edge/test/upload-quota.test.ts'],
  },
  {
    name: 'stored-bytes-uncounted',
    harm: 'a tenant fills the store',
    file: 'edge/admission/upload-quota.ts',
    from: 'const isFull = bytes >= bytesMax ||',
    to: 'const isFull =',
    tests: ['edge/admission/upload-quota.test.ts', 'edge/test/upload-quota.test.ts'],
  },
  {
    name: 'staging-without-tenant',
    harm: 'what one tenant has sent, another completes as its own',
    file: 'gpu-host/adapters/s3-staging.ts',
    from: 'function directoryOf(tenantId: string, file: UploadFile): string {\n',
    to: `function directoryOf(tenantId: string, file: UploadFile): string {
  tenantId = 'any'
`,
    tests: ['scripts/commands/deploy-direct.test.ts'],
  },
  {
    name: 'hash-proves-possession',
    harm: "who knows the hashes of a neighbour's files is served the neighbour's adapter",
    file: 'edge/routes/uploads.ts',
    from: 'isKnown ? digest : null',
    to: 'isKnown ? digest : digest',
    tests: ['scripts/commands/deploy-direct.test.ts'],
  },
]

const READER_TESTS = ['edge/openai/tools/tool-call-reader.test.ts']

const TOOL_BUGS: readonly PlantedBug[] = [
  {
    name: 'call-of-a-tool-not-offered',
    harm: 'a program is handed a call of a function that it never offered',
    file: 'edge/openai/tools/tool-call-reader.ts',
    from: 'call === null || !this.#callable.has(call.name)',
    to: 'call === null',
    tests: READER_TESTS,
  },
  {
    name: 'call-ends-within-its-text',
    harm: 'an argument that holds a bracket cuts its call, and the rest is shown as the answer',
    file: 'gpu-host/wire/tool-call-text.ts',
    from: `else if (sign === '"') this.isInString = false`,
    to: 'else this.isInString = false',
    tests: READER_TESTS,
  },
  {
    name: 'arguments-through-numbers',
    harm: 'an order number of twenty digits comes out as another one',
    file: 'gpu-host/wire/tool-call-text.ts',
    from: "arguments: given === 'null' ? '{}' : given",
    to: "arguments: JSON.stringify(JSON.parse(given === 'null' ? '{}' : given))",
    tests: ['gpu-host/wire/tool-call-text.test.ts'],
  },
  {
    name: 'tools-that-no-template-shows',
    harm: 'tools are offered and the model never hears of them',
    file: 'gpu-host/text/chat-template.ts',
    from: 'isWritable(CALL_OPEN) && tellsTools(render)',
    to: 'isWritable(CALL_OPEN) || tellsTools(render)',
    tests: ['gpu-host/text/chat-template.test.ts'],
  },
]

export const INPUT_BUGS: readonly PlantedBug[] = [
  ...FILE_BUGS,
  ...REQUEST_BUGS,
  ...ADAPTER_BUGS,
  ...TOOL_BUGS,
]
