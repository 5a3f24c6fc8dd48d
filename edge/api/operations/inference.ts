/** OpenAI's routes. Field by field they are in `docs/openai-conformance.md`. */
import { z } from 'zod'
import { DEADLINE_HEADER } from '../../admission/deadline.ts'
import { chatBody } from '../../openai/chat-request.ts'
import { completionBody } from '../../openai/completion-request.ts'
import {
  chatChunk,
  chatReply,
  completionChunk,
  completionReply,
  modelListReply,
  modelReply,
} from '../../openai/reply-schemas.ts'
import type { Operation } from '../operation.ts'

const headers = z.object({
  'idempotency-key': z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe('A request that is sent again under it is answered and billed once.'),
  [DEADLINE_HEADER]: z
    .string()
    .regex(/^\d{1,7}$/)
    .optional()
    .describe('Milliseconds from now within which the first token must come.'),
})

interface Endpoint {
  readonly base: string
  readonly suffix: string
  readonly where: string
}

/** The same four under two bases. */
function operationsOf({ base, suffix, where }: Endpoint): Operation[] {
  const shared = { group: 'Inference', headers } as const
  return [
    {
      ...shared,
      method: 'post',
      path: `${base}/chat/completions`,
      id: `createChatCompletion${suffix}`,
      summary: `Continue a conversation, ${where}`,
      caller: 'generate',
      body: { schema: chatBody.strict() },
      replies: { 200: { what: 'The answer.', schema: chatReply, frame: chatChunk } },
    },
    {
      ...shared,
      method: 'post',
      path: `${base}/completions`,
      id: `createCompletion${suffix}`,
      summary: `Continue a text, ${where}`,
      caller: 'generate',
      body: { schema: completionBody.strict() },
      replies: { 200: { what: 'The answer.', schema: completionReply, frame: completionChunk } },
    },
    {
      group: 'Inference',
      method: 'get',
      path: `${base}/models`,
      id: `listModelNames${suffix}`,
      summary: `What a request may name as its model, ${where}`,
      caller: 'key',
      replies: { 200: { what: 'Base models, then the tenant’s own.', schema: modelListReply } },
    },
    {
      group: 'Inference',
      method: 'get',
      path: `${base}/models/:id{.+}`,
      id: `showModelName${suffix}`,
      summary: `One of them, ${where}`,
      caller: 'key',
      replies: { 200: { what: 'It may be named.', schema: modelReply } },
    },
  ]
}

export const INFERENCE_OPERATIONS: readonly Operation[] = [
  ...operationsOf({ base: '/v1', suffix: '', where: 'on the shared endpoint' }),
  ...operationsOf({
    base: '/:tenant/:model/v1',
    suffix: 'OfModel',
    where: "on a model's own endpoint",
  }),
]
