// The base model: GGUF metadata, hyper-parameters and weights in one backend buffer. Read once at
// open, never changed afterwards.
#pragma once

#include <string>
#include <vector>

#include "status.h"

struct ggml_backend_buffer;
struct ggml_context;
struct ggml_tensor;
struct gguf_context;
typedef struct ggml_backend * ggml_backend_t;

namespace nozzle {

// Linear layers an adapter may change. Same order as TARGET_MODULES in adapter-pack.ts.
enum target_module {
    TARGET_ATTN_Q, TARGET_ATTN_K, TARGET_ATTN_V, TARGET_ATTN_OUTPUT,
    TARGET_FFN_GATE, TARGET_FFN_UP, TARGET_FFN_DOWN,
    TARGET_COUNT,
};

struct model_dims {
    std::string architecture;
    int   n_layer      = 0;
    int   n_embd       = 0;
    int   n_ff         = 0;
    int   n_head       = 0;
    int   n_head_kv    = 0;
    int   head_dim     = 0;
    int   n_vocab      = 0;
    int   n_ctx_train  = 0;
    int   rope_dim     = 0;
    float rope_base    = 10000.0f;
    float rope_scale   = 1.0f;  // frequency scale, 1 / factor for linear scaling
    float rms_epsilon  = 1e-5f;

    int target_n_in (int target) const;
    int target_n_out(int target) const;
};

struct model_layer {
    ggml_tensor * attn_norm = nullptr; // F32 [n_embd]
    ggml_tensor * ffn_norm  = nullptr; // F32 [n_embd]
    ggml_tensor * linear[TARGET_COUNT] = {}; // any type [n_in, n_out], indexed by target_module
};

class model {
  public:
    ~model();
    // Reads the shape of a llama-architecture GGUF. Fails with model_not_found, model_invalid or
    // unsupported_architecture.
    status read_shape(const std::string & path);
    // After that, its weights, into a buffer of `backend`; without one the file is mapped and the tensors
    // point into it. Fails with model_invalid or out_of_memory.
    status load(const std::string & path, ggml_backend_t backend);
    // Known with the shape.
    size_t weight_bytes() const;

    model_dims               dims;
    std::vector<model_layer> layers;
    ggml_tensor * token_embd  = nullptr; // any type [n_embd, n_vocab]
    ggml_tensor * output_norm = nullptr; // F32 [n_embd]
    ggml_tensor * output      = nullptr; // any type [n_embd, n_vocab]; token_embd itself when tied
    ggml_tensor * rope_freqs  = nullptr; // F32 [rope_dim / 2]; nullptr = none

  private:
    status read_dims();
    status bind_tensors();
    status allocate_weights(const std::string & path, ggml_backend_t backend);
    status map_weights(const std::string & path);
    status read_weights(const std::string & path);
    status bind(ggml_tensor ** out, const std::string & name, int64_t ne0, int64_t ne1);

    gguf_context        * gguf    = nullptr; // metadata, owned; nullptr before read_shape and after load
    ggml_context        * context = nullptr; // tensor headers; owned
    ggml_backend_buffer * buffer  = nullptr; // weights; owned
    void                * mapping = nullptr; // the file, read only; owned
    size_t                mapping_size = 0;
};

} // namespace nozzle
