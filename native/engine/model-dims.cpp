#include "model-dims.h"

#include "ggml.h"
#include "gguf.h"

#include <cmath>
#include <cstdint>
#include <utility>

namespace nozzle {

int model_dims::target_n_in(int target) const {
    switch (target) {
        case TARGET_ATTN_OUTPUT: return n_head * head_dim;
        case TARGET_FFN_DOWN:    return n_ff;
        default:                 return n_embd;
    }
}

int model_dims::target_n_out(int target) const {
    switch (target) {
        case TARGET_ATTN_Q:   return n_head * head_dim;
        case TARGET_ATTN_K:
        case TARGET_ATTN_V:   return n_head_kv * head_dim;
        case TARGET_FFN_GATE:
        case TARGET_FFN_UP:   return n_ff;
        default:              return n_embd;
    }
}

// Of every width. The largest products of widths that are made in an int are those of all queries, keys and
// values of a row, of gate and up together, and of a KV row with a page's cells: 16 times a width at most. What
// is multiplied by rows, slots, layers, cells or the vocabulary is 64 bits wide.
static constexpr int WIDTH_MAX = 1 << 26;

// What the served architectures differ in.
struct architecture {
    const char * name;
    int          rope_mode;
    bool         has_qk_norm;
    bool         has_rope_factors; // may carry frequency divisors, of Llama 3 or of LongRoPE
};
static constexpr architecture ARCHITECTURES[] = {
    { "llama", GGML_ROPE_TYPE_NORMAL, false, true  },
    { "qwen2", GGML_ROPE_TYPE_NEOX,   false, false },
    { "qwen3", GGML_ROPE_TYPE_NEOX,   true,  false },
};

// Keys that change what a model computes unless they are absent or hold the neutral value. libllama
// passes over some of them, so its logits would not be the model's either.
struct unserved_key {
    const char * key;
    double       neutral;
    bool         is_zero_unset; // writers put 0 where nothing is meant
    const char * what;
};
static constexpr unserved_key UNSERVED_KEYS[] = {
    { "expert_count",                     0,  true,  "a mixture of experts" },
    { "attn_logit_softcapping",           0,  true,  "soft-capping of attention scores" },
    { "final_logit_softcapping",          0,  true,  "soft-capping of logits" },
    { "attention.clamp_kqv",              0,  true,  "clamping of q, k and v" },
    { "attention.max_alibi_bias",         0,  true,  "ALiBi" },
    { "attention.causal",                 1,  false, "attention to later tokens" },
    { "attention.scale",                  0,  true,  "an attention scale other than 1/sqrt(head length)" },
    { "attention.temperature_scale",      0,  true,  "a temperature of attention" },
    { "logit_scale",                      1,  true,  "a scale of the logits" },
    { "embedding_scale",                  1,  true,  "a scale of the embeddings" },
    { "residual_scale",                   1,  true,  "a scale of the residual stream" },
    { "rope.scaling.alpha",               0,  true,  "NTK-aware RoPE scaling" },
    { "rope.scaling.yarn_log_multiplier", 0,  true,  "a YaRN multiplier" },
    { "rope.scaling.yarn_ext_factor",     1,  false, "a YaRN extrapolation factor other than 1" },
    { "rope.scaling.yarn_attn_factor",    1,  false, "a YaRN attention factor other than 1" },
    { "rope.scaling.yarn_beta_fast",      32, false, "a YaRN beta_fast other than 32" },
    { "rope.scaling.yarn_beta_slow",      1,  false, "a YaRN beta_slow other than 1" },
};

static std::string to_text(double value) {
    std::string out = std::to_string(value);
    out.erase(out.find_last_not_of('0') + 1);
    return out.back() == '.' ? out.substr(0, out.size() - 1) : out;
}

// Look-ups under an architecture's prefix. Checks each type, since gguf's own accessors abort on a
// wrong one. Invariant: `problem` is the first thing that was found wrong.
class metadata {
  public:
    metadata(const gguf_context * gguf, const std::string & prefix) : gguf(gguf), prefix(prefix) {}

    bool has(const char * key) const { return gguf_find_key(gguf, full(key).c_str()) >= 0; }

    double number(const char * key, double fallback) {
        const int64_t id = gguf_find_key(gguf, full(key).c_str());
        if (id < 0) {
            return fallback;
        }
        const double value = raw_number(key, id, fallback);
        if (std::isfinite(value)) {
            return value;
        }
        invalid(key, "is not a finite number");
        return fallback;
    }
    int integer(const char * key, int fallback) {
        const double value = number(key, fallback);
        if (value == std::floor(value) && value >= 0 && value <= INT32_MAX) {
            return (int) value;
        }
        invalid(key, "is " + to_text(value) + ", not a whole number that a model can have");
        return fallback;
    }
    std::string text(const char * key, const char * fallback) {
        const int64_t id = gguf_find_key(gguf, full(key).c_str());
        if (id >= 0 && gguf_get_kv_type(gguf, id) == GGUF_TYPE_STRING) {
            return gguf_get_val_str(gguf, id);
        }
        if (id >= 0) {
            invalid(key, "is not a text");
        }
        return fallback;
    }
    void refuse(const char * key, const std::string & value, const std::string & why) {
        fail(ERR_UNSUPPORTED, full(key) + " is " + value + ": " + why);
    }
    void invalid(const char * key, const std::string & why) {
        fail(ERR_MODEL_INVALID, full(key) + " " + why + "; convert the model again");
    }

    status problem;

  private:
    double raw_number(const char * key, int64_t id, double fallback) {
        switch (gguf_get_kv_type(gguf, id)) {
            case GGUF_TYPE_UINT16:  return gguf_get_val_u16(gguf, id);
            case GGUF_TYPE_INT16:   return gguf_get_val_i16(gguf, id);
            case GGUF_TYPE_UINT32:  return gguf_get_val_u32(gguf, id);
            case GGUF_TYPE_INT32:   return gguf_get_val_i32(gguf, id);
            case GGUF_TYPE_UINT64:  return (double) gguf_get_val_u64(gguf, id);
            case GGUF_TYPE_INT64:   return (double) gguf_get_val_i64(gguf, id);
            case GGUF_TYPE_FLOAT32: return gguf_get_val_f32(gguf, id);
            case GGUF_TYPE_FLOAT64: return gguf_get_val_f64(gguf, id);
            case GGUF_TYPE_BOOL:    return gguf_get_val_bool(gguf, id) ? 1 : 0;
            case GGUF_TYPE_ARRAY:   refuse(key, "a list", "layers that differ are not served; use another model"); break;
            default:                invalid(key, "is not a number");
        }
        return fallback;
    }
    std::string full(const char * key) const { return prefix + key; }
    void fail(const char * code, std::string message) {
        if (problem.ok()) {
            problem = status::failure(code, std::move(message));
        }
    }
    const gguf_context * gguf;
    std::string          prefix;
};

static void check_unserved(metadata & meta, int n_ctx) {
    for (const unserved_key & u : UNSERVED_KEYS) {
        const double value = meta.number(u.key, u.neutral);
        if (value != u.neutral && !(value == 0 && u.is_zero_unset)) {
            meta.refuse(u.key, to_text(value), std::string(u.what) + " is not served; use a model without it");
        }
    }
    const int window = meta.integer("attention.sliding_window", 0);
    if (window > 0 && window < n_ctx) {
        meta.refuse("attention.sliding_window", std::to_string(window),
                    "a window is served only where it holds the whole context; open with a context length of at most " +
                    std::to_string(window) + ", or use a model without it");
    }
}

static void read_lengths(metadata & meta, model_dims & dims) {
    const std::pair<const char *, int *> required[] = {
        { "block_count", &dims.n_layer },      { "embedding_length", &dims.n_embd },
        { "feed_forward_length", &dims.n_ff }, { "attention.head_count", &dims.n_head },
        { "context_length", &dims.n_ctx_train },
    };
    for (const auto & [key, length] : required) {
        *length = meta.integer(key, 0);
        if (*length == 0) {
            meta.invalid(key, "is missing or 0");
        }
    }
    for (const auto & [key, length] : { std::pair{ "embedding_length", dims.n_embd }, { "feed_forward_length", dims.n_ff } }) {
        if (length > WIDTH_MAX) {
            meta.invalid(key, "is more than a model can have");
        }
    }
    dims.n_head_kv = meta.integer("attention.head_count_kv", dims.n_head);
    if (dims.n_head_kv == 0 || dims.n_head % dims.n_head_kv != 0) {
        meta.invalid("attention.head_count_kv", "does not divide attention.head_count");
    }
    dims.rms_epsilon = (float) meta.number("attention.layer_norm_rms_epsilon", 0);
    if (!(dims.rms_epsilon > 0)) {
        meta.invalid("attention.layer_norm_rms_epsilon", "is missing or 0");
    }
}

static void read_heads(metadata & meta, model_dims & dims) {
    const bool is_explicit = meta.has("attention.key_length");
    dims.head_dim = is_explicit ? meta.integer("attention.key_length", 0) : dims.n_embd / dims.n_head;
    if (dims.head_dim == 0 || dims.head_dim % 16 != 0 || (!is_explicit && dims.n_embd % dims.n_head != 0)) {
        const char * key = is_explicit ? "attention.key_length" : "embedding_length";
        meta.refuse(key, std::to_string(is_explicit ? dims.head_dim : dims.n_embd),
                    "attention heads of a multiple of 16 values are served; use another model");
    }
    if ((int64_t) dims.n_head * dims.head_dim > WIDTH_MAX) {
        meta.invalid("attention.head_count", "times the length of a head is more than a model can have");
    }
    for (const char * key : { "attention.value_length", "rope.dimension_count" }) {
        const int length = meta.integer(key, dims.head_dim);
        if (length != dims.head_dim) {
            meta.refuse(key, std::to_string(length), "only a head's length, " + std::to_string(dims.head_dim) +
                        ", is served; use another model");
        }
    }
}

static void read_rope(metadata & meta, const architecture & arch, int n_ctx, model_dims & dims) {
    rope_params & rope = dims.rope;
    rope.mode         = arch.rope_mode;
    rope.base         = (float) meta.number("rope.freq_base", 10000.0);
    if (!(rope.base > 1)) {
        meta.invalid("rope.freq_base", "is not above 1");
    }
    rope.n_ctx_origin = meta.integer("rope.scaling.original_context_length", dims.n_ctx_train);
    // A factor without a type means linear; the key once had another name.
    const std::string type = meta.text("rope.scaling.type", "linear");
    const double factor = meta.number("rope.scaling.factor", meta.number("rope.scale_linear", 0));
    if (factor < 0) {
        meta.invalid("rope.scaling.factor", "is negative");
    }
    rope.scale = factor > 0 && type != "none" ? (float) (1.0 / factor) : 1.0f;
    if (arch.has_rope_factors) {
        rope.factors = "rope_freqs.weight";
    }
    if (type == "yarn") {
        rope.ext_factor = 1.0f;
        // ggml multiplies by 1 + ln(factor)/10 (YaRN, section 3.4), which a factor below 1 must not get.
        rope.attn_factor = rope.scale <= 1.0f ? 1.0f : 1.0f / (1.0f - 0.1f * std::log(rope.scale));
    } else if (type == "longrope" && arch.has_rope_factors) {
        rope.factors = n_ctx > rope.n_ctx_origin ? "rope_factors_long.weight" : "rope_factors_short.weight";
        rope.needs_factors = true;
    } else if (type != "none" && type != "linear") {
        meta.refuse("rope.scaling.type", "'" + type + "'", std::string(arch.has_rope_factors ?
                    "none, linear, yarn and longrope" : "none, linear and yarn") + " are served; use another model");
    }
    rope.attn_factor *= (float) meta.number("rope.scaling.attn_factor", 1.0);
}

status read_dims(const gguf_context * gguf, int n_ctx, model_dims & dims) {
    metadata general(gguf, "general.");
    dims.architecture = general.text("architecture", "");
    const architecture * arch = nullptr;
    std::string served;
    for (const architecture & a : ARCHITECTURES) {
        arch = a.name == dims.architecture ? &a : arch;
        served += (served.empty() ? "" : ", ") + std::string(a.name);
    }
    if (!arch) {
        general.refuse("architecture", "'" + dims.architecture + "'", "served are " + served + "; use such a model");
        return general.problem;
    }
    dims.has_qk_norm = arch->has_qk_norm;
    metadata meta(gguf, dims.architecture + ".");
    check_unserved(meta, n_ctx);
    read_lengths(meta, dims);
    if (meta.problem.ok()) {
        read_heads(meta, dims);
        read_rope(meta, *arch, n_ctx, dims);
    }
    return meta.problem;
}

} // namespace nozzle
