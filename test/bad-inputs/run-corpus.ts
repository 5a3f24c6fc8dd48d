/** Sends cases to a target, several at once, and counts what came of them, class by class. */
import { type BadCase, CLASSES, type ClassId } from './bad-case.ts'
import { judge } from './judge.ts'
import type { Target, Vitals } from './target.ts'

export interface RunOptions {
  /** A sound request after every so many cases, and after each class. */
  readonly goodEvery: number
  readonly note?: (text: string) => void
}

export interface ClassCount {
  readonly class: ClassId
  readonly what: string
  readonly cases: number
  readonly refused: number
  readonly legal: number
  readonly closed: number
  readonly wrong: number
  readonly good_requests: number
  readonly seconds: number
  readonly edge_mib: readonly [before: number, after: number]
  readonly host_mib: readonly [before: number, after: number]
}

export interface Findings {
  readonly classes: ClassCount[]
  /** Each with its case's id; the replay is `NOZZLE_BAD_INPUTS=<id> …`, see test/README.md. */
  readonly faults: string[]
  /** Edge or host processes that are not those that were started. */
  readonly exits: number
}

/** Uploads wait for places on the host: one more would be told to come again. */
const AT_ONCE = { http: 12, socket: 12, upload: 2, cli: 4 }

function kindOf({ input }: BadCase): keyof typeof AT_ONCE {
  const isUpload = input.kind === 'http' && input.path.includes('/versions')
  return isUpload ? 'upload' : input.kind
}

export async function runCorpus(
  target: Target,
  cases: readonly BadCase[],
  { goodEvery, note = () => {} }: RunOptions,
): Promise<Findings> {
  const found: Findings = { classes: [], faults: [], exits: 0 }
  const begun = target.vitals()
  for (const classId of Object.keys(CLASSES) as ClassId[]) {
    const own = cases.filter((one) => one.classId === classId)
    if (own.length === 0) continue
    const count = await runClass(target, own, goodEvery, found.faults)
    note(`${classId}: ${JSON.stringify(count)}`)
    found.classes.push(count)
    found.faults.push(...target.leaks().map((leak) => `${classId}: logged ${leak}`))
  }
  const ended = vitalsOf(target)
  const exits = ['edgePid', 'hostPid'] as const
  return { ...found, exits: exits.filter((pid) => ended?.[pid] !== begun[pid]).length }
}

function vitalsOf(target: Target): Vitals | null {
  try {
    return target.vitals()
  } catch {
    return null
  }
}

async function runClass(
  target: Target,
  cases: readonly BadCase[],
  goodEvery: number,
  faults: string[],
): Promise<ClassCount> {
  const startMs = performance.now()
  const before = target.vitals()
  const counts = { refused: 0, legal: 0, closed: 0, wrong: 0 }
  let good = 0
  const checkGood = async (after: string): Promise<void> => {
    good += 1
    try {
      await target.assertGood()
    } catch (error) {
      faults.push(`${after}: then ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  for (let first = 0; first < cases.length; first += goodEvery) {
    const batch = cases.slice(first, first + goodEvery)
    await atOnce(batch, async ({ id, title, input, expected }) => {
      const verdict = judge(await target.send(input), expected)
      counts[verdict.is] += 1
      if (verdict.is === 'wrong') faults.push(`${id} (${title}): ${verdict.why}`)
    })
    await checkGood(batch.at(-1)?.id ?? 'nothing')
  }
  const after = vitalsOf(target) ?? before
  const [{ classId } = { classId: 'B1' as const }] = cases
  return {
    class: classId,
    what: CLASSES[classId],
    cases: cases.length,
    ...counts,
    good_requests: good,
    seconds: Math.round((performance.now() - startMs) / 100) / 10,
    edge_mib: [before.edgeMib, after.edgeMib],
    host_mib: [before.hostMib, after.hostMib],
  }
}

async function atOnce(
  cases: readonly BadCase[],
  run: (one: BadCase) => Promise<void>,
): Promise<void> {
  for (const [kind, width] of Object.entries(AT_ONCE)) {
    const rest = cases.filter((one) => kindOf(one) === kind)
    const work = async (): Promise<void> => {
      for (let one = rest.shift(); one !== undefined; one = rest.shift()) await run(one)
    }
    await Promise.all(Array.from({ length: width }, work))
  }
}
