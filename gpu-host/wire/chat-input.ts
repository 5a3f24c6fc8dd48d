/**
 * What a chat request is about, as it goes from edge to host: messages, and tools that the model
 * may call. Part of protocol.ts, and under its rules.
 */
import { z } from 'zod'

/** Tools that one request may offer, and calls that one message may hold. */
export const TOOLS_MAX = 128

export const toolName = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, "_" or "-"')

const callId = z.string().min(1).max(128)

export const toolCall = z.object({
  id: callId,
  name: toolName,
  /** JSON of an object. */
  arguments: z.string().refine(isJsonObject, 'must be the JSON of an object'),
})

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}

export const chatMessage = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: z.string(),
  name: z.string().max(64).optional(),
  /** Of an assistant. */
  tool_calls: z.array(toolCall).min(1).max(TOOLS_MAX).optional(),
  /** Of a tool: the call that this is the result of. */
  tool_call_id: callId.optional(),
})
export type ChatMessage = z.infer<typeof chatMessage>

/** A function that the client can call for the model. */
export const tool = z.object({
  name: toolName,
  description: z.string().optional(),
  /** JSON schema of its arguments; absent = it takes none. */
  parameters: z.record(z.string(), z.unknown()).optional(),
})
export type Tool = z.infer<typeof tool>

export const chatInput = z.object({
  kind: z.literal('chat'),
  messages: z.array(chatMessage).min(1).max(2048),
  /** Shown to the model; absent = none. */
  tools: z.array(tool).min(1).max(TOOLS_MAX).optional(),
})
export type ChatInput = z.infer<typeof chatInput>
