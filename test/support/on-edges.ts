/**
 * The same cases in front of each edge that there is: the process on Node, and the Worker in
 * workerd. NOZZLE_TEST_EDGE names one of them, which all cases run on then.
 */
import { describe, it } from 'vitest'
import { z } from 'zod'
import { findPostgres } from '../../db/test/support/postgres-server.ts'
import { describeOnBaseModel } from './base-model.ts'
import { baseModelPath } from './base-model-path.ts'
import type { EdgeRuntime } from './pool-home.ts'

const chosen = z
  .enum(['node', 'workerd'])
  .optional()
  .parse(process.env.NOZZLE_TEST_EDGE || undefined)

interface EdgeChoice {
  /** Also on Node. */
  readonly needsPostgres?: boolean
  /** Where nobody chose an edge: on which ones. What is not on all of them saves time. */
  readonly unlessChosen: readonly EdgeRuntime[]
}

export const ON_EACH_EDGE: EdgeChoice = { unlessChosen: ['node', 'workerd'] }
export const ON_NODE_UNLESS_CHOSEN: EdgeChoice = { unlessChosen: ['node'] }
/** What Node's edge is tried with elsewhere. */
export const IN_WORKERD: EdgeChoice = { unlessChosen: ['workerd'] }
/** For pools whose edges share a database. */
export const SHARED_UNLESS_CHOSEN: EdgeChoice = { unlessChosen: ['node'], needsPostgres: true }

/** As `describe`, once per edge. Where one of them cannot be had it is skipped, saying why. */
export function describeOnEdges(
  title: string,
  { unlessChosen, needsPostgres = false }: EdgeChoice,
  body: (edge: EdgeRuntime) => void,
): void {
  for (const edge of chosen === undefined ? unlessChosen : [chosen]) {
    const name = edge === 'node' ? title : `${title}, behind the Worker in workerd`
    const isMissing = (needsPostgres || edge === 'workerd') && findPostgres() === null
    const shown = isMissing ? `${name} (skipped: there is no PostgreSQL)` : name
    describe.skipIf(isMissing)(shown, () => body(edge))
  }
}

/** As `it`, for what workerd cannot show on one machine; `reason` is then in the title. */
export function itUnlessInWorkerd(
  edge: EdgeRuntime,
  { title, reason }: { readonly title: string; readonly reason: string },
  body: () => Promise<void>,
): void {
  const isSkipped = edge === 'workerd'
  it.skipIf(isSkipped)(isSkipped ? `${title} (skipped: ${reason})` : title, body)
}

/** As `describeOnEdges`, on the real base model. */
export function describeOnPools(
  title: string,
  choice: EdgeChoice,
  body: (edge: EdgeRuntime) => void,
): void {
  if (baseModelPath === null) describeOnBaseModel(title, () => body('node'))
  else describeOnEdges(title, choice, body)
}
