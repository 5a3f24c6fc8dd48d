// The base model: GGUF metadata, hyper-parameters and weights in one backend buffer. Read once at
// open, never changed afterwards.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "model-dims.h"
#include "status.h"

struct ggml_backend_buffer;
struct ggml_context;
struct ggml_tensor;
struct gguf_context;
typedef struct ggml_backend * ggml_backend_t;

namespace nozzle {

struct model_layer {
    ggml_tensor * attn_norm = nullptr; // F32 [n_embd]
    ggml_tensor * ffn_norm  = nullptr; // F32 [n_embd]
    ggml_tensor * linear[TARGET_COUNT] = {}; // any served type [n_in, n_out], indexed by target_module
    ggml_tensor * bias  [TARGET_COUNT] = {}; // F32 [n_out], added after weight and adapter; nullptr = none
    ggml_tensor * attn_q_norm = nullptr;     // F32 [head_dim], of each head; nullptr = none
    ggml_tensor * attn_k_norm = nullptr;
};

class model {
  public:
    ~model();
    // Reads the shape of a GGUF, for sequences of up to n_ctx tokens. Fails with model_not_found,
    // model_invalid or unsupported_architecture.
    status read_shape(const std::string & path, int n_ctx);
    // After that, its weights, into a buffer of `backend`; without one the file is mapped and the tensors
    // point into it. Fails with model_invalid or out_of_memory.
    status load(const std::string & path, ggml_backend_t backend);
    // Known with the shape.
    size_t weight_bytes() const;

    // Lets go of the mapped file's pages that were read; what is read again comes back from the file.
    void forget_pages() const;

    model_dims               dims;
    std::vector<model_layer> layers;
    ggml_tensor * token_embd  = nullptr; // any type [n_embd, n_vocab]
    ggml_tensor * output_norm = nullptr; // F32 [n_embd]
    ggml_tensor * output      = nullptr; // any type [n_embd, n_vocab]; token_embd itself when tied
    ggml_tensor * output_bias = nullptr; // F32 [n_vocab]; nullptr = none
    ggml_tensor * rope_freqs  = nullptr; // F32 [head_dim / 2], frequency divisors; nullptr = none

  private:
    status bind_tensors();
    status bind_layer(int layer);
    status check_all_bound() const;
    status allocate_weights(const std::string & path, ggml_backend_t backend);
    status map_weights(const std::string & path);
    status read_weights(const std::string & path);
    status bind(ggml_tensor ** out, const std::string & name, int64_t ne0, int64_t ne1);
    status bind_optional(ggml_tensor ** out, const std::string & name, int64_t ne0, int64_t ne1);

    std::set<std::string> bound; // names of tensors in use
    gguf_context        * gguf    = nullptr; // metadata, owned; nullptr before read_shape and after load
    ggml_context        * context = nullptr; // tensor headers; owned
    ggml_backend_buffer * buffer  = nullptr; // weights; owned
    void                * mapping = nullptr; // the file, read only; owned
    size_t                mapping_size = 0;
};

} // namespace nozzle
