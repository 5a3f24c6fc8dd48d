#include "sampler.h"

#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <numeric>

#include <fcntl.h>
#include <unistd.h>

namespace nozzle {

// Tokens back that the penalties look, prompt included.
static constexpr int PENALTY_WINDOW = 1024;

// libllama prints a grammar that does not parse, which is a tenant's text, straight to stderr: the
// host's log. While this lives, stderr leads nowhere.
class muted_stderr {
  public:
    muted_stderr() : kept(dup(STDERR_FILENO)) {
        const int nowhere = open("/dev/null", O_WRONLY);
        if (kept >= 0 && nowhere >= 0) {
            fflush(stderr);
            dup2(nowhere, STDERR_FILENO);
        }
        if (nowhere >= 0) {
            close(nowhere);
        }
    }
    ~muted_stderr() {
        if (kept >= 0) {
            fflush(stderr);
            dup2(kept, STDERR_FILENO);
            close(kept);
        }
    }

  private:
    int kept; // owned
};

sampler::~sampler() {
    if (chain) {
        llama_sampler_free(chain);
    }
    if (grammar) {
        llama_sampler_free(grammar);
    }
}

status sampler::configure(const sampling_options & options, const llama_vocab * vocab, int vocab_size) {
    n_vocab        = vocab_size;
    n_top_logprobs = options.n_top_logprobs;
    if (!options.grammar.empty()) {
        const muted_stderr mute;
        grammar = llama_sampler_init_grammar(vocab, options.grammar.c_str(), "root");
        if (!grammar) {
            return status::failure(ERR_INVALID_GRAMMAR, "the GBNF grammar does not parse or has no rule 'root'");
        }
    }
    chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (!options.logit_bias.empty()) {
        std::vector<llama_logit_bias> bias;
        for (const token_logprob & b : options.logit_bias) {
            if (b.token < 0 || b.token >= n_vocab) {
                return status::failure(ERR_INVALID_ARGUMENT, "logit_bias names token " + std::to_string(b.token) +
                                       ", the vocabulary ends at " + std::to_string(n_vocab - 1));
            }
            bias.push_back({ b.token, b.logprob });
        }
        llama_sampler_chain_add(chain, llama_sampler_init_logit_bias(n_vocab, (int32_t) bias.size(), bias.data()));
    }
    const bool has_penalty = options.repetition_penalty != 1.0f || options.frequency_penalty != 0.0f ||
                             options.presence_penalty != 0.0f;
    if (has_penalty) {
        llama_sampler_chain_add(chain, llama_sampler_init_penalties(n_vocab, PENALTY_WINDOW, options.repetition_penalty,
                                options.frequency_penalty, options.presence_penalty));
    }
    if (options.temperature <= 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    } else {
        if (options.top_k > 0) {
            llama_sampler_chain_add(chain, llama_sampler_init_top_k(options.top_k));
        }
        if (options.top_p < 1.0f) {
            llama_sampler_chain_add(chain, llama_sampler_init_top_p(options.top_p, 1));
        }
        if (options.min_p > 0) {
            llama_sampler_chain_add(chain, llama_sampler_init_min_p(options.min_p, 1));
        }
        llama_sampler_chain_add(chain, llama_sampler_init_temp(options.temperature));
        llama_sampler_chain_add(chain, llama_sampler_init_dist(options.seed));
    }
    if (has_penalty) {
        // The grammar is not told: it constrains what is generated, not the prompt.
        for (const int32_t token : options.prompt) {
            llama_sampler_accept(chain, token);
        }
    }
    is_plain_greedy = options.temperature <= 0 && options.logit_bias.empty() && !has_penalty;
    return status::success();
}

bool sampler::grammar_allows(int32_t token) {
    llama_token_data       only = { token, 1.0f, 0.0f };
    llama_token_data_array one  = { &only, 1, -1, false };
    llama_sampler_apply(grammar, &one);
    return only.logit != -INFINITY;
}

// -1 when nothing is left to draw from.
int32_t sampler::draw_through_chain(const float * logits) {
    std::vector<llama_token_data> data(n_vocab);
    llama_token_data_array candidates;
    const auto fill = [&] {
        for (int i = 0; i < n_vocab; ++i) {
            data[i] = { i, logits[i], 0.0f };
        }
        candidates = { data.data(), data.size(), -1, false };
    };
    fill();
    llama_sampler_apply(chain, &candidates);
    int32_t token = candidates.selected >= 0 ? candidates.data[candidates.selected].id : -1;
    if (token < 0 || !grammar || grammar_allows(token)) {
        return token;
    }
    // The draw broke the grammar: mask the whole vocabulary, which costs more, and draw again.
    fill();
    llama_sampler_apply(grammar, &candidates);
    const bool is_any_left = std::any_of(data.begin(), data.end(), [](const llama_token_data & d) {
        return d.logit != -INFINITY;
    });
    if (!is_any_left) {
        return -1;
    }
    llama_sampler_apply(chain, &candidates);
    token = candidates.selected >= 0 ? candidates.data[candidates.selected].id : -1;
    return token >= 0 && grammar_allows(token) ? token : -1;
}

void sampler::fill_logprobs(const float * logits, sampled_token & out) const {
    const float top = *std::max_element(logits, logits + n_vocab);
    double sum = 0;
    for (int i = 0; i < n_vocab; ++i) {
        sum += std::exp((double) logits[i] - top);
    }
    const double log_sum = top + std::log(sum);
    out.has_logprob = true;
    out.logprob     = (float) (logits[out.token] - log_sum);
    const int n = std::min(n_top_logprobs, n_vocab);
    if (n > 0) {
        std::vector<int32_t> order(n_vocab);
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](int32_t a, int32_t b) {
            return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
        });
        for (int i = 0; i < n; ++i) {
            out.top.push_back({ order[i], (float) (logits[order[i]] - log_sum) });
        }
    }
}

sampled_token sampler::draw(const float * logits) {
    sampled_token out;
    // Sum of x - x: 0 for finite numbers, NaN for anything else; vectorises where a test would not.
    float trace = 0;
    for (int i = 0; i < n_vocab; ++i) {
        trace += logits[i] - logits[i];
    }
    if (trace != 0.0f || std::isnan(trace)) {
        out.is_non_finite = true;
        return out;
    }
    try {
        if (is_plain_greedy) {
            out.token = (int32_t) (std::max_element(logits, logits + n_vocab) - logits);
            if (grammar && !grammar_allows(out.token)) {
                out.token = draw_through_chain(logits);
            }
        } else {
            out.token = draw_through_chain(logits);
        }
        if (out.token < 0) {
            out.is_non_finite = true;
            return out;
        }
        if (grammar) {
            llama_sampler_accept(grammar, out.token);
        }
        llama_sampler_accept(chain, out.token);
    } catch (const std::exception &) {
        // libllama throws when a grammar is left without a way on.
        out.is_non_finite = true;
        return out;
    }
    if (n_top_logprobs >= 0) {
        fill_logprobs(logits, out);
    }
    return out;
}

} // namespace nozzle
