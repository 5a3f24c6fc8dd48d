// Hyper-parameters of a base model, read from its GGUF's metadata. Invariant: what these cannot
// express is refused with the metadata key that says so, never computed approximately.
#pragma once

#include <string>

#include "status.h"

struct gguf_context;

namespace nozzle {

// Linear layers an adapter may change. Same order as TARGET_MODULES in adapter-pack.ts.
enum target_module {
    TARGET_ATTN_Q, TARGET_ATTN_K, TARGET_ATTN_V, TARGET_ATTN_OUTPUT,
    TARGET_FFN_GATE, TARGET_FFN_UP, TARGET_FFN_DOWN,
    TARGET_COUNT,
};

// Rotary position embeddings, in ggml_rope_ext's terms; every value of a head is rotated.
struct rope_params {
    int   mode         = 0;        // GGML_ROPE_TYPE_NORMAL: pairs of neighbours; _NEOX: half a head apart
    int   n_ctx_origin = 0;        // context length that the model was trained at before any scaling
    float base         = 10000.0f;
    float scale        = 1.0f;     // frequency scale, 1 / factor
    float ext_factor   = 0.0f;     // 1 = YaRN
    float attn_factor  = 1.0f;     // scales the rotated values
    float beta_fast    = 32.0f;
    float beta_slow    = 1.0f;
    std::string factors;           // tensor of frequency divisors F32 [head_dim / 2]; empty = none
    bool  needs_factors = false;   // a model without that tensor is incomplete
};

struct model_dims {
    std::string architecture; // llama, qwen2 or qwen3
    int   n_layer      = 0;
    int   n_embd       = 0;
    int   n_ff         = 0;
    int   n_head       = 0;
    int   n_head_kv    = 0;
    int   head_dim     = 0;
    int   n_vocab      = 0;     // set by the model, from its embeddings
    int   n_ctx_train  = 0;
    float rms_epsilon  = 1e-5f;
    bool  has_qk_norm  = false; // qwen3: each head of q and k is normalised before RoPE
    rope_params rope;

    int target_n_in (int target) const;
    int target_n_out(int target) const;
};

// Everything but n_vocab. `n_ctx`: tokens of the longest sequence that will be run; some models
// compute short contexts otherwise than long ones. Fails with model_invalid or unsupported_architecture.
status read_dims(const gguf_context * gguf, int n_ctx, model_dims & out);

} // namespace nozzle
