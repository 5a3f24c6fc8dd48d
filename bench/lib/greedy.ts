/** Sampling of every benchmark: the most likely token, with nothing added. */
export const GREEDY = {
  temperature: 0,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
  seed: 0,
  logit_bias: {},
  grammar: null,
} as const
