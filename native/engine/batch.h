// One engine call: parallel arrays, one entry per row. Rows of one sequence stand next to each other
// in the order of their positions.
#pragma once

#include <cstdint>
#include <vector>

namespace nozzle {

struct batch {
    std::vector<int32_t> tokens;
    std::vector<int32_t> positions;
    std::vector<int32_t> sequences;
    std::vector<int32_t> slots;   // 0 = no adapter
    std::vector<uint8_t> outputs; // 1 = sample a token after this row

    int n_rows() const { return (int) tokens.size(); }
};

// What a row's logits come to, where the runner has looked at them on the way.
struct logits_summary {
    int32_t best      = 0;    // the largest logit's token, the first of equals
    bool    is_finite = true; // false: NaN or Inf among them, `best` says nothing
};

// F32 [n_vocab, rows with outputs 1], in row order; valid until the runner's next step.
struct step_logits {
    const float          * values    = nullptr; // nullptr when the batch has no outputs
    const logits_summary * summaries = nullptr; // one per row, or nullptr
};

struct token_logprob {
    int32_t token;
    float   logprob; // natural
};

struct sampled_token {
    int32_t sequence      = 0;
    int32_t token         = -1;
    bool    is_non_finite = false;
    bool    is_stuck      = false; // the grammar leaves no token, or is too ambiguous to tell
    bool    has_logprob   = false;
    float   logprob       = 0;
    std::vector<token_logprob> top; // best first
};

} // namespace nozzle
