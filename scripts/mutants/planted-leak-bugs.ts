/** Planted bugs of what gets out: by logs, by connections, through the walls of a process. */
import type { PlantedBug } from './planted-bug.ts'

const NO_LEAKS = ['edge/test/no-leaks.test.ts']
const EGRESS = ['edge/test/egress.test.ts']
const CONFINEMENT = ['scripts/release/confinement.test.ts']
const SUPPLY_CHAIN = ['scripts/supply-chain/supply-chain.test.ts']

const WRITTEN_DOWN: readonly PlantedBug[] = [
  {
    name: 'log-line-unescaped',
    harm: 'who reads a log in a terminal has it driven by whoever sent a request',
    file: 'gpu-host/wire/log-line.ts',
    from: 'JSON.stringify(record).replaceAll(UNPRINTABLE, escapeSign)',
    to: "JSON.stringify(record).replaceAll(UNPRINTABLE, '$&')",
    tests: ['gpu-host/wire/log-line.test.ts'],
  },
  {
    name: 'body-quoted-in-log',
    harm: 'a body that is no JSON stands in the log, with the prompt that it is',
    file: 'edge/errors.ts',
    from: "  if (error instanceof SyntaxError) return 'not valid JSON'\n",
    to: '',
    tests: NO_LEAKS,
  },
  {
    name: 'statement-values-in-log',
    harm: 'the values of a statement that failed, answers among them, stand in the log',
    file: 'edge/errors.ts',
    from: "error.message.split('\\nparams: ', 1)",
    to: "error.message.split('\\nnone: ', 1)",
    tests: NO_LEAKS,
  },
  {
    name: 'prompt-in-host-log',
    harm: 'every prompt stands in the log of its host',
    file: 'gpu-host/telemetry/request-watch.ts',
    from: 'this.#note({ attempt, model, adapter_version_id })',
    to: 'this.#note({ attempt, model, adapter_version_id, input: JSON.stringify(request.input) })',
    tests: NO_LEAKS,
  },
  {
    name: 'answer-drives-terminal',
    harm: 'a model that learnt escape sequences writes over what its reader sees',
    file: 'scripts/lib/output.ts',
    from: 'stdout.isTTY === true ? toPrintable(text) : text',
    to: 'text',
    tests: ['scripts/lib/printable.test.ts'],
  },
]

const CONNECTIONS: readonly PlantedBug[] = [
  {
    name: 'redirect-of-host-followed',
    harm: 'a host that was taken over has edges call whom it likes, with a prompt in the body',
    file: 'edge/pool/host-transport.ts',
    from: "redirect: 'manual' }",
    to: "redirect: 'follow' }",
    tests: EGRESS,
  },
  {
    name: 'pepper-given-to-hosts',
    harm: 'a host that was taken over has the database of all tenants',
    file: 'scripts/release/release-secrets.ts',
    from: "file('nozzle-host', [poolSecret, ...bucket.ofHost])",
    to: "file('nozzle-host', [poolSecret, ...bucket.ofHost, database.url])",
    tests: CONFINEMENT,
  },
  {
    name: 'pod-reaches-anybody',
    harm: 'a host that was taken over sends weights wherever it likes',
    file: 'scripts/release/kubernetes-host.ts',
    from: "      { ports: [{ port: 443, protocol: 'TCP' }] },\n",
    to: '      { ports: [] },\n',
    tests: CONFINEMENT,
  },
]

const WALLS: readonly PlantedBug[] = [
  {
    name: 'core-dumped',
    harm: 'a crash writes prompts and the pool secret to disk',
    file: 'scripts/release/hardening.ts',
    from: "        ['LimitCORE', '0'],\n",
    to: '',
    tests: CONFINEMENT,
  },
  {
    name: 'container-writes-itself',
    harm: 'who takes a process over changes the code that it starts with the next time',
    file: 'scripts/release/kubernetes-objects.ts',
    from: 'readOnlyRootFilesystem: true',
    to: 'readOnlyRootFilesystem: false',
    tests: CONFINEMENT,
  },
  {
    name: 'install-scripts-run',
    harm: 'who takes a package over runs anything on every machine that installs it',
    file: '.npmrc',
    from: 'ignore-scripts=true',
    to: 'ignore-scripts=false',
    tests: SUPPLY_CHAIN,
  },
  {
    name: 'no-advisories-taken-for-none',
    harm: 'a registry that knows nothing is read as one that found nothing',
    file: 'scripts/supply-chain/audit.ts',
    from: '  if (!parsed.success) {\n',
    to: '  if (!parsed.success) return []\n  if (told === stderr) {\n',
    tests: SUPPLY_CHAIN,
  },
]

export const LEAK_BUGS: readonly PlantedBug[] = [...WRITTEN_DOWN, ...CONNECTIONS, ...WALLS]
