/** What the bench and its stub host agree on: the one answer there is, and how they talk. */
import { z } from 'zod'

/** A token each, which no other text of a reply holds. */
export const ANSWER = [
  ...[' umber', ' quill', ' raven', ' sorrel', ' tansy', ' vetch', ' willow', ' yarrow'],
  ...[' alder', ' birch', ' cedar', ' dogwood', ' elder', ' fern', ' gorse', ' hazel'],
] as const
export const ANSWER_TEXT = ANSWER.join('')
export const PROMPT_TOKENS = 120
/** OpenAI's, below the stub's own URL. */
export const CHAT_PATH = '/v1/chat/completions'

export const stubOptions = z.object({
  port: z.int(),
  poolSecret: z.string(),
  edgeUrls: z.array(z.url()),
  hostId: z.string(),
  baseModel: z.string(),
  adapterDigest: z.string(),
})
export type StubOptions = z.infer<typeof stubOptions>

export const stubMessage = {
  chat: z.object({ stream: z.boolean().default(false) }),
  /** Answers whose usage the host settled, and how many of these no edge has acknowledged. */
  books: z.object({ type: z.literal('books'), settled: z.int(), unshipped: z.int() }),
} as const
