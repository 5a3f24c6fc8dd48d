#include "kv-cache.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

namespace nozzle {

kv_cache::~kv_cache() {
    if (buffer) {
        ggml_backend_buffer_free(buffer);
    }
    if (context) {
        ggml_free(context);
    }
}

status kv_cache::allocate(const model_dims & dims, int n_sequences, int n_ctx, ggml_backend_t backend) {
    ctx_length = n_ctx;
    lengths.assign(n_sequences, 0);
    const ggml_init_params params = { ggml_tensor_overhead() * (2 * dims.n_layer + 2), nullptr, true };
    context = ggml_init(params);
    if (!context) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for the KV cache's headers");
    }
    const int64_t width = (int64_t) dims.n_head_kv * dims.head_dim;
    const int64_t cells = (int64_t) n_ctx * n_sequences;
    for (int il = 0; il < dims.n_layer; ++il) {
        k_layers.push_back(ggml_new_tensor_2d(context, GGML_TYPE_F16, width, cells));
        v_layers.push_back(ggml_new_tensor_2d(context, GGML_TYPE_F16, width, cells));
    }
    buffer = ggml_backend_alloc_ctx_tensors(context, backend);
    if (!buffer) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for a KV cache of " + std::to_string(n_sequences) +
                               " sequences of " + std::to_string(n_ctx) + " tokens");
    }
    ggml_backend_buffer_clear(buffer, 0);
    return status::success();
}

} // namespace nozzle
