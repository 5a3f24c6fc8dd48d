/**
 * Different adapters run in the same engine step, and none of them notices: whatever the company, a
 * greedy answer is the one that the request gets alone, to the last digit of its own and the next
 * best tokens' log probabilities.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ask, askStreaming, chatBody, type Question } from './support/inference.ts'
import { readMetrics } from './support/metrics.ts'
import { describeOnPools, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import { casesOf, EXAMPLE_TASKS } from './support/tasks.ts'

const PROMPTS_PER_MODEL = 2
const TOKENS = 16

describeOnPools('a mixed step', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let pool: Pool

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool(home)
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  /** All models × different prompts; the base model is asked the same as each adapter. */
  function questions(): Question[] {
    return Array.from({ length: PROMPTS_PER_MODEL }, (_, index) => index).flatMap((index) =>
      EXAMPLE_TASKS.flatMap((task) => {
        const prompt = casesOf(task, PROMPTS_PER_MODEL)[index]?.prompt ?? expect.fail('no case')
        return [`demo/${task}`, pool.ready.base_model].map((model) => ({
          baseUrl: pool.ready.base_url,
          apiKey: pool.demoKey,
          body: chatBody(prompt, TOKENS, {
            ...{ model, logprobs: true, top_logprobs: 3 },
            // All run for the same number of steps, so that they overlap.
            ignore_eos: true,
          }),
        }))
      }),
    )
  }

  it('carries rows of three adapters, each answering as it does alone', async () => {
    const asked = questions()
    const alone = []
    for (const question of asked) alone.push(await ask(question))
    const host = await pool.host()
    const before = await readMetrics(host)
    const together = await Promise.all(
      asked.map((question, index) => (index % 2 === 0 ? ask(question) : askStreaming(question))),
    )
    const after = await readMetrics(host)
    const mixed =
      after.countAbove('nozzle_step_distinct_slots', 2) -
      before.countAbove('nozzle_step_distinct_slots', 2)
    expect(mixed).toBeGreaterThan(0)
    for (const [index, reply] of together.entries()) {
      const { text, logprobs, usage } = alone[index] ?? expect.fail('not asked alone')
      expect(logprobs).toHaveLength(TOKENS)
      expect({ text: reply.text, logprobs: reply.logprobs }).toEqual({ text, logprobs })
      // What came out of the prefix cache is another matter: the second asking finds the first's.
      const billed = (of: typeof usage) => [of?.prompt_tokens, of?.completion_tokens]
      expect(billed(reply.usage)).toEqual(billed(usage))
    }
  })

  it('is as wide as its requests: one adapter asked alone shares with nobody', async () => {
    const host = await pool.host()
    const before = await readMetrics(host)
    for (const question of questions().slice(0, 2)) await ask(question)
    const after = await readMetrics(host)
    const name = 'nozzle_step_distinct_slots'
    expect(after.value(`${name}_count`)).toBeGreaterThan(before.value(`${name}_count`))
    expect(after.countAbove(name, 1)).toBe(before.countAbove(name, 1))
  })
})
