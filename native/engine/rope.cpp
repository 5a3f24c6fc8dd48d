#include "rope.h"

#include "ggml.h"

#include <algorithm>
#include <cmath>

namespace nozzle {

void rope_table::init(const model_dims & dims, const float * factors) {
    const rope_params & rope = dims.rope;
    const int half = dims.head_dim / 2;
    if (rope.mode == GGML_ROPE_TYPE_NEOX) {
        partner = half;
        stride  = 1;
    }
    // YaRN (section 3.2): pairs before the first turn often enough within the original context to be left
    // alone, pairs after the last are scaled, those between are mixed.
    float ends[2] = { 0, 0 };
    if (rope.ext_factor != 0) {
        ggml_rope_yarn_corr_dims(dims.head_dim, rope.n_ctx_origin, rope.base, rope.beta_fast, rope.beta_slow, ends);
        magnitude = 1.0 + 0.1 * std::log(1.0 / (double) rope.scale);
    }
    magnitude *= rope.attn_factor;
    frequencies.resize(half);
    for (int i = 0; i < half; ++i) {
        const double ramp  = (i - ends[0]) / std::max(0.001, (double) ends[1] - ends[0]);
        const double alone = rope.ext_factor * (1.0 - std::clamp(ramp, 0.0, 1.0));
        const double plain = std::pow((double) rope.base, -(double) i / half) / (factors ? factors[i] : 1.0);
        frequencies[i] = plain * (rope.scale * (1.0 - alone) + alone);
    }
}

void rope_table::fill(int position, float * cosines) const {
    const int half = (int) frequencies.size();
    for (int i = 0; i < half; ++i) {
        const double angle = position * frequencies[i];
        cosines[i]        = (float) (std::cos(angle) * magnitude);
        cosines[half + i] = (float) (std::sin(angle) * magnitude);
    }
}

void rope_table::rotate(const float * cosines, float * head) const {
    const int half = (int) frequencies.size();
    const float * sines = cosines + half;
    for (int i = 0; i < half; ++i) {
        float & first  = head[i * stride];
        float & second = head[i * stride + partner];
        const float a = first, b = second;
        first  = a * cosines[i] - b * sines[i];
        second = a * sines[i] + b * cosines[i];
    }
}

} // namespace nozzle
