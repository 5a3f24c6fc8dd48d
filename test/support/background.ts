/** Traffic that goes on in the background of a test, and keeps account of what went wrong. */
import { ask, askStreaming, chatBody } from './inference.ts'
import type { Pool } from './pool.ts'
import { ANSWER_TOKENS_MAX, caseOf, EXAMPLE_TASKS, isRight } from './tasks.ts'

export interface Background {
  /** Answers so far. */
  readonly answers: () => number
  /** Ends it; resolves to what went wrong, request by request. */
  stop(): Promise<string[]>
}

/** Asks the example models in turn, always one request under way; every answer must be right. */
export function startBackground(pool: Pool): Background {
  const failures: string[] = []
  let answers = 0
  let isStopping = false
  const work = async (): Promise<void> => {
    for (let index = 0; !isStopping; index++) {
      const task = EXAMPLE_TASKS[index % EXAMPLE_TASKS.length] ?? EXAMPLE_TASKS[0]
      const example = caseOf(task)
      const send = index % 2 === 0 ? ask : askStreaming
      try {
        const { status, text, error } = await send({
          baseUrl: `${pool.edgeUrl}/demo/${task}/v1`,
          apiKey: pool.demoKey,
          body: chatBody(example.prompt, ANSWER_TOKENS_MAX),
        })
        answers += 1
        if (!isRight(example, text)) {
          failures.push(`${task}: ${status} ${error?.code ?? ''} ${JSON.stringify(text)}`)
        }
      } catch (error) {
        failures.push(`${task}: ${error instanceof Error ? error.stack : String(error)}`)
      }
    }
  }
  const done = work()
  return {
    answers: () => answers,
    async stop() {
      isStopping = true
      await done
      return failures
    },
  }
}
