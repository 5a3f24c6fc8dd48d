// How one sequence draws its tokens: libllama's sampler chain, plus a plain argmax where the chain
// would come to the same.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "batch.h"
#include "status.h"

struct llama_sampler;
struct llama_vocab;

namespace nozzle {

struct sampling_options {
    float    temperature        = 1.0f; // 0 = greedy
    float    top_p              = 1.0f;
    int32_t  top_k              = 0;    // 0 = off
    float    min_p              = 0.0f;
    float    frequency_penalty  = 0.0f;
    float    presence_penalty   = 0.0f;
    float    repetition_penalty = 1.0f;
    uint32_t seed               = 0;
    std::string grammar;                // GBNF; empty = none
    std::vector<token_logprob> logit_bias;
    int      n_top_logprobs     = -1;   // -1 = no logprobs
    std::vector<int32_t> prompt;        // for the penalties
};

class sampler {
  public:
    sampler() = default;
    ~sampler();
    sampler(const sampler &) = delete;
    sampler & operator=(const sampler &) = delete;

    // Fails with invalid_grammar or invalid_argument.
    status configure(const sampling_options & options, const llama_vocab * vocab, int n_vocab);

    // Draws from F32 logits [n_vocab] and takes the token into the chain's memory. A row with NaN or
    // Inf, or one that the grammar leaves without a token, comes back is_non_finite, nothing drawn.
    sampled_token draw(const float * logits);

  private:
    int32_t draw_through_chain(const float * logits);
    bool    grammar_allows(int32_t token);
    void    fill_logprobs(const float * logits, sampled_token & out) const;

    int             n_vocab        = 0;
    int             n_top_logprobs = -1;
    bool            is_plain_greedy = false;
    llama_sampler * chain   = nullptr; // owned
    llama_sampler * grammar = nullptr; // owned; nullptr = none
};

} // namespace nozzle
