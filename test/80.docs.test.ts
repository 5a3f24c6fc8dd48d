/**
 * Every command of the documents. Those that can run here are run, in order, document by document,
 * on a real pool with a data directory of its own (README.md's is new, the others' as a first start
 * leaves it), and print what the document shows; those that
 * cannot say so and why, and their words and flags exist. Links lead somewhere.
 *
 * NOZZLE_DOCS_IN_FULL=docs/fine-tune.md runs what that document marks as not run, too.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Places } from '../gpu-host/adapters/places.ts'
import { describeOnBaseModel } from './support/base-model.ts'
import { type Doc, type DocBlock, isShownAs, parseDoc } from './support/doc-blocks.ts'
import { checkCommands, checkSpan } from './support/doc-commands.ts'
import { DocTerminals, type Typed } from './support/doc-shell.ts'
import { PROJECT_ROOT } from './support/nozzle.ts'
import { pythonPath } from './support/python.ts'

/** What was, and what others wrote. */
const NOT_READ = /^(CHANGELOG\.md|bench\/results\/|docs\/openai-conformance\.md)/
/** Where a block that is not run would have made something, what stands for it. */
const STAND_INS: Readonly<Record<string, string>> = {
  'docs/fine-tune.md': 'cp -r examples/adapters/ticket-triage dates-adapter',
}
/** docs/README.md says it of all of them. */
const FIRST = 'alias nozzle=$PWD/scripts/nozzle.mjs'
/** Of one document; in full PyTorch is installed and trains. */
const FOLLOW_MAX_MS = 1_800_000
/** Documents at a time: most of what a command takes is its start, on one core. */
const READERS = 2
const inFull = process.env.NOZZLE_DOCS_IN_FULL

const docs = execFileSync(
  'git',
  ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'],
  {
    cwd: PROJECT_ROOT,
    encoding: 'utf8',
  },
)
  .split('\n')
  .filter((path) => path !== '' && !NOT_READ.test(path) && existsSync(join(PROJECT_ROOT, path)))
  .map((path) => parseDoc(path, readFileSync(join(PROJECT_ROOT, path), 'utf8')))

const runnable = docs.filter(
  ({ path, blocks }) => path === inFull || blocks.some(({ use }) => use.kind !== 'check'),
)

describe('the documents', () => {
  it('have their commands in fences that say what becomes of them', () => {
    expect(docs.flatMap(({ faults }) => faults)).toEqual([])
  })

  it('show commands, scripts and flags that exist, where they are not run', () => {
    const faults = docs.flatMap(({ path, blocks }) =>
      blocks
        .filter(({ use }) => use.kind === 'check')
        .flatMap(({ line, source }) =>
          checkCommands(source).map((fault) => `${path}:${line}: ${fault}`),
        ),
    )
    expect(faults).toEqual([])
  })

  it('name commands and flags that exist, within sentences', () => {
    const faults = docs.flatMap(({ path, spans }) =>
      spans.flatMap(({ line, source }) => {
        const fault = checkSpan(source)
        return fault === null ? [] : [`${path}:${line}: \`${source}\`: ${fault}`]
      }),
    )
    expect(faults).toEqual([])
  })

  it('link to files that are there', () => {
    const dead = docs.flatMap(({ path }) =>
      [...readFileSync(join(PROJECT_ROOT, path), 'utf8').matchAll(/\]\((?!https?:)([^)#\s]+)/g)]
        .map(([, target = '']) => target)
        .filter((target) => !existsSync(join(PROJECT_ROOT, dirname(path), target)))
        .map((target) => `${path}: ${target}`),
    )
    expect(dead).toEqual([])
  })
})

describeOnBaseModel('every command that can run here', () => {
  const readers = new Places(READERS)
  let before: DocTerminals
  beforeAll(async () => {
    before = new DocTerminals(null)
    await before.serve('npm start')
    await before.interrupt()
  })
  afterAll(async () => {
    await before.close()
  })
  it.concurrent.each(runnable)(
    'of $path',
    (doc) =>
      readers.run({ isUrgent: true }, () =>
        followAll(doc, doc.path === 'README.md' ? null : before.dataDirectory),
      ),
    FOLLOW_MAX_MS,
  )
})

/** A reader who is stuck goes no further: the first block that fails ends it. */
async function followAll(doc: Doc, after: string | null): Promise<void> {
  const terminals = new DocTerminals(after)
  try {
    await typeRightly(terminals, FIRST)
    for (const block of doc.blocks) {
      await follow(terminals, doc, block).catch((error: unknown) => {
        throw new Error(`${doc.path}:${block.line}: ${reasonOf(error)}`)
      })
    }
  } finally {
    await terminals.close()
  }
}

async function follow(terminals: DocTerminals, doc: Doc, block: DocBlock): Promise<void> {
  const { source, use } = block
  const standIn = STAND_INS[doc.path]
  if (use.kind === 'check' && doc.path !== inFull) {
    if (standIn !== undefined) await typeRightly(terminals, standIn)
    return
  }
  if (use.kind === 'serve') return terminals.serve(source)
  if (use.kind === 'python') {
    if (pythonPath !== null) compare(await terminals.python(source, pythonPath), 0, block.output)
    return
  }
  const exitCode = use.kind === 'run' ? use.exitCode : 0
  const typed = await terminals.type(source, exitCode)
  // What is shown is of the real thing, and not of what stands for it.
  const isReal = standIn === undefined || doc.path === inFull
  compare(typed, exitCode, isReal ? block.output : undefined)
}

async function typeRightly(terminals: DocTerminals, source: string): Promise<void> {
  compare(await terminals.type(source, 0), 0, undefined)
}

function compare(typed: Typed, exitCode: number, output: string | undefined): void {
  const { stdout, stderr } = typed
  if (typed.exitCode !== exitCode) {
    throw new Error(`exit code ${typed.exitCode}, not ${exitCode}\n${stdout}\n${stderr}`)
  }
  if (output !== undefined && !isShownAs(stdout, output)) {
    throw new Error(`printed:\n${stdout}\nshown:\n${output}`)
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
