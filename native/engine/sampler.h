// How one sequence draws its tokens: libllama's sampler chain, plus a plain argmax where the chain
// would come to the same.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "batch.h"
#include "grammar-matcher.h"
#include "status.h"

struct llama_sampler;

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
    std::string grammar;                // GBNF; empty = none. The engine compiles it.
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

    // `constraint` null = none. Fails with invalid_argument.
    status configure(const sampling_options & options, std::unique_ptr<grammar_matcher> constraint, int vocab_size);

    // Draws from F32 logits [n_vocab] and takes the token into the chain's memory. A row with NaN or
    // Inf comes back is_non_finite, one whose grammar leaves no token, or costs too much, is_stuck; nothing
    // is drawn then. `known`: what the runner found in the logits, or nullptr. Different samplers may draw
    // at the same time.
    sampled_token draw(const float * logits, const logits_summary * known);

  private:
    logits_summary summarise(const float * logits) const;
    // Among the tokens whose bit is set, null = all; -1 = there is none.
    int32_t draw_among(const float * logits, const std::vector<uint64_t> * allowed);
    // `best`: the largest logit's token.
    int32_t draw_freely(const float * logits, int32_t best);
    int32_t draw_within_grammar(const float * logits, int32_t best);
    void    fill_logprobs(const float * logits, sampled_token & out) const;

    int             n_vocab        = 0;
    int             n_top_logprobs = -1;
    bool            is_plain_greedy = false;
    llama_sampler * chain = nullptr; // owned
    std::unique_ptr<grammar_matcher> grammar; // null = none
};

} // namespace nozzle
