#include "kv-cache.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>
#include <cstdint>

namespace nozzle {

kv_cache::~kv_cache() {
    if (buffer) {
        ggml_backend_buffer_free(buffer);
    }
    if (context) {
        ggml_free(context);
    }
}

int64_t kv_cache::pages_needed(int n_sequences, int n_ctx, int64_t n_cells) {
    const int64_t one_context = ((int64_t) n_ctx + KV_PAGE_CELLS - 1) / KV_PAGE_CELLS;
    return n_cells == 0 ? n_sequences * one_context : (n_cells + KV_PAGE_CELLS - 1) / KV_PAGE_CELLS;
}

status kv_cache::allocate(const model_dims & dims, int n_sequences, int n_ctx, int64_t n_cells, bool is_cleared,
                          ggml_backend_t backend) {
    ctx_length = n_ctx;
    const int64_t n_pages = pages_needed(n_sequences, n_ctx, n_cells);
    if (n_cells != 0 && n_cells < n_ctx) {
        return status::failure(ERR_INVALID_ARGUMENT, "a KV cache of " + std::to_string(n_cells) +
                               " cells cannot hold one context of " + std::to_string(n_ctx) + " tokens");
    }
    const status full = status::failure(ERR_OUT_OF_MEMORY, "no memory for a KV cache of " +
                                        std::to_string(n_pages * KV_PAGE_CELLS) + " tokens");
    if (n_pages > INT32_MAX / KV_PAGE_CELLS) {
        return full;
    }
    lengths.assign(n_sequences, 0);
    page_counts.assign(n_sequences, 0);
    tables.assign((size_t) n_sequences * table_size(), 0);
    holders.assign(n_pages, 0);
    const ggml_init_params params = { ggml_tensor_overhead() * (2 * dims.n_layer + 2), nullptr, true };
    context = ggml_init(params);
    if (!context) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for the KV cache's headers");
    }
    const int64_t width = (int64_t) dims.n_head_kv * dims.head_dim;
    const int64_t cells = n_pages * KV_PAGE_CELLS;
    for (int il = 0; il < dims.n_layer; ++il) {
        k_layers.push_back(ggml_new_tensor_2d(context, GGML_TYPE_F16, width, cells));
        v_layers.push_back(ggml_new_tensor_2d(context, GGML_TYPE_F16, width, cells));
    }
    buffer = ggml_backend_alloc_ctx_tensors(context, backend);
    if (!buffer) {
        return full;
    }
    if (is_cleared) {
        ggml_backend_buffer_clear(buffer, 0);
    }
    return status::success();
}

size_t kv_cache::page_bytes() const {
    size_t bytes = 0;
    for (size_t il = 0; il < k_layers.size(); ++il) {
        bytes += (k_layers[il]->nb[1] + v_layers[il]->nb[1]) * KV_PAGE_CELLS;
    }
    return bytes;
}

status kv_cache::set_pages(int sequence, const std::vector<int32_t> & pages, int length) {
    const auto refuse = [](const std::string & why) { return status::failure(ERR_INVALID_ARGUMENT, "pages: " + why); };
    const int count = (int) pages.size();
    if (count > table_size()) {
        return refuse("a sequence has at most " + std::to_string(table_size()) + ", got " + std::to_string(count));
    }
    std::vector<int32_t> sorted = pages;
    std::sort(sorted.begin(), sorted.end());
    for (int i = 0; i < count; ++i) {
        if (sorted[i] < 0 || sorted[i] >= n_pages()) {
            return refuse("page " + std::to_string(sorted[i]) + " does not exist");
        }
        if (i > 0 && sorted[i] == sorted[i - 1]) {
            return refuse("page " + std::to_string(sorted[i]) + " stands there twice");
        }
    }
    if (length < 0 || length > count * KV_PAGE_CELLS || length > ctx_length) {
        return refuse(std::to_string(count) + " pages cannot hold " + std::to_string(length) + " filled cells");
    }
    int32_t * table = tables.data() + (size_t) sequence * table_size();
    for (int i = 0; i < page_counts[sequence]; ++i) {
        holders[table[i]]--;
    }
    for (const int32_t page : pages) {
        holders[page]++;
    }
    std::fill(std::copy(pages.begin(), pages.end(), table), table + table_size(), 0);
    page_counts[sequence] = count;
    lengths[sequence]     = length;
    return status::success();
}

} // namespace nozzle
