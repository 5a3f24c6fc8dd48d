#include "sampler.h"

#include "llama.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <numeric>

namespace nozzle {

// Tokens back that the penalties look, prompt included.
static constexpr int PENALTY_WINDOW = 1024;
static constexpr int LANES          = 16;

// libllama takes this seed for "draw one"; a request that names it means it.
static uint32_t to_dist_seed(uint32_t seed) { return seed == LLAMA_DEFAULT_SEED ? seed - 1 : seed; }

sampler::~sampler() {
    if (chain) {
        llama_sampler_free(chain);
    }
}

status sampler::configure(const sampling_options & options, std::unique_ptr<grammar_matcher> constraint,
                          int vocab_size) {
    n_vocab        = vocab_size;
    n_top_logprobs = options.n_top_logprobs;
    grammar        = std::move(constraint);
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
        llama_sampler_chain_add(chain, llama_sampler_init_dist(to_dist_seed(options.seed)));
    }
    if (has_penalty) {
        for (const int32_t token : options.prompt) {
            llama_sampler_accept(chain, token);
        }
    }
    is_plain_greedy = options.temperature <= 0 && options.logit_bias.empty() && !has_penalty;
    return status::success();
}

int32_t sampler::draw_among(const float * logits, const std::vector<uint64_t> * allowed) {
    const auto is_allowed = [&](int token) { return !allowed || ((*allowed)[token / 64] >> (token % 64) & 1); };
    if (is_plain_greedy) {
        int32_t best = -1;
        for (int i = 0; i < n_vocab; ++i) {
            if (is_allowed(i) && (best < 0 || logits[i] > logits[best])) {
                best = i;
            }
        }
        return best;
    }
    std::vector<llama_token_data> data;
    data.reserve(n_vocab);
    for (int i = 0; i < n_vocab; ++i) {
        if (is_allowed(i)) {
            data.push_back({ i, logits[i], 0.0f });
        }
    }
    llama_token_data_array candidates = { data.data(), data.size(), -1, false };
    if (data.empty()) {
        return -1;
    }
    llama_sampler_apply(chain, &candidates);
    return candidates.selected >= 0 ? candidates.data[candidates.selected].id : -1;
}

int32_t sampler::draw_freely(const float * logits, int32_t best) {
    return is_plain_greedy ? best : draw_among(logits, nullptr);
}

// A draw from all tokens that the grammar allows is kept. One that it does not is drawn again from those
// that it does, which needs a look at the whole vocabulary.
int32_t sampler::draw_within_grammar(const float * logits, int32_t best) {
    const std::shared_ptr<grammar_automaton> held = grammar->automaton(); // the matcher may move to another
    const std::lock_guard<std::mutex>        alone(held->mutex);
    grammar->refill();
    int32_t    token = draw_freely(logits, best);
    const auto first = token < 0 ? grammar_matcher::verdict::NO : grammar->allows(token);
    if (first == grammar_matcher::verdict::NO) {
        const std::vector<uint64_t> * allowed = grammar->allowed();
        token = allowed ? draw_among(logits, allowed) : -1;
    } else if (first == grammar_matcher::verdict::TOO_AMBIGUOUS) {
        token = -1;
    }
    if (token >= 0) {
        grammar->accept(token);
    }
    return token;
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

logits_summary sampler::summarise(const float * logits) const {
    // In lanes, which vectorise. Sum of x - x: 0 for finite numbers, NaN for anything else.
    float traces[LANES] = {}, tops[LANES];
    std::fill_n(tops, LANES, logits[0]);
    const auto take = [&](int lane, float x) {
        traces[lane] += x - x;
        tops[lane] = x > tops[lane] ? x : tops[lane];
    };
    int i = 0;
    for (; i + LANES <= n_vocab; i += LANES) {
        for (int lane = 0; lane < LANES; ++lane) {
            take(lane, logits[i + lane]);
        }
    }
    for (; i < n_vocab; ++i) {
        take(0, logits[i]);
    }
    const float trace = std::accumulate(traces, traces + LANES, 0.0f);
    const float top   = *std::max_element(tops, tops + LANES);
    return { (int32_t) (std::find(logits, logits + n_vocab, top) - logits), trace == 0.0f };
}

sampled_token sampler::draw(const float * logits, const logits_summary * known) {
    sampled_token out;
    const logits_summary summary = known ? *known : summarise(logits);
    if (!summary.is_finite) {
        out.is_non_finite = true;
        return out;
    }
    try {
        out.token = grammar ? draw_within_grammar(logits, summary.best) : draw_freely(logits, summary.best);
        if (out.token < 0) {
            out.is_stuck = true;
            return out;
        }
        llama_sampler_accept(chain, out.token);
        if (n_top_logprobs >= 0) {
            fill_logprobs(logits, out);
        }
    } catch (const std::exception &) {
        out.is_stuck = true;
    }
    return out;
}

} // namespace nozzle
