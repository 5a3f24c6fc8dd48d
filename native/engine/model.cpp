#include "model.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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

model::~model() {
    if (gguf) {
        gguf_free(gguf);
    }
    if (buffer) {
        ggml_backend_buffer_free(buffer);
    }
    if (context) {
        ggml_free(context);
    }
    if (mapping) {
        munmap(mapping, mapping_size);
    }
}

// Typed look-ups over GGUF metadata; every accessor checks the stored type first, since gguf's own
// accessors abort on a wrong one.
struct metadata {
    const gguf_context * gguf;

    bool has(const std::string & key, gguf_type type) const {
        const int64_t id = gguf_find_key(gguf, key.c_str());
        return id >= 0 && gguf_get_kv_type(gguf, id) == type;
    }
    int integer(const std::string & key, int fallback) const {
        if (has(key, GGUF_TYPE_UINT32)) {
            const uint32_t value = gguf_get_val_u32(gguf, gguf_find_key(gguf, key.c_str()));
            return value > 0x7fffffffu ? -1 : (int) value;
        }
        if (has(key, GGUF_TYPE_INT32)) {
            return gguf_get_val_i32(gguf, gguf_find_key(gguf, key.c_str()));
        }
        return fallback;
    }
    float number(const std::string & key, float fallback) const {
        return has(key, GGUF_TYPE_FLOAT32) ? gguf_get_val_f32(gguf, gguf_find_key(gguf, key.c_str())) : fallback;
    }
    std::string text(const std::string & key) const {
        return has(key, GGUF_TYPE_STRING) ? gguf_get_val_str(gguf, gguf_find_key(gguf, key.c_str())) : "";
    }
};

status model::read_shape(const std::string & path) {
    FILE * probe = fopen(path.c_str(), "rb");
    if (!probe) {
        return status::failure(ERR_MODEL_NOT_FOUND, "cannot open " + path);
    }
    fclose(probe);

    const gguf_init_params params = { /*no_alloc*/ true, &context };
    gguf = gguf_init_from_file(path.c_str(), params);
    if (!gguf) {
        return status::failure(ERR_MODEL_INVALID, path + " is not a readable GGUF file");
    }
    const status result = read_dims();
    return result.ok() ? bind_tensors() : result;
}

size_t model::weight_bytes() const {
    size_t bytes = 0;
    for (ggml_tensor * t = ggml_get_first_tensor(context); t; t = ggml_get_next_tensor(context, t)) {
        bytes += ggml_nbytes(t);
    }
    return bytes;
}

status model::load(const std::string & path, ggml_backend_t backend) {
    const status result = backend ? allocate_weights(path, backend) : map_weights(path);
    gguf_free(gguf);
    gguf = nullptr;
    return result;
}

status model::allocate_weights(const std::string & path, ggml_backend_t backend) {
    buffer = ggml_backend_alloc_ctx_tensors(context, backend);
    if (!buffer) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for the weights of " + path);
    }
    ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    return read_weights(path);
}

status model::read_dims() {
    const metadata meta = { gguf };
    dims.architecture = meta.text("general.architecture");
    if (dims.architecture != "llama") {
        return status::failure(ERR_UNSUPPORTED, "architecture '" + dims.architecture +
                               "' is not served; use a GGUF whose general.architecture is llama");
    }
    const std::string arch = dims.architecture + ".";
    dims.n_layer     = meta.integer(arch + "block_count", 0);
    dims.n_embd      = meta.integer(arch + "embedding_length", 0);
    dims.n_ff        = meta.integer(arch + "feed_forward_length", 0);
    dims.n_head      = meta.integer(arch + "attention.head_count", 0);
    dims.n_head_kv   = meta.integer(arch + "attention.head_count_kv", dims.n_head);
    dims.n_ctx_train = meta.integer(arch + "context_length", 0);
    if (dims.n_layer <= 0 || dims.n_embd <= 0 || dims.n_ff <= 0 || dims.n_head <= 0 || dims.n_head_kv <= 0 ||
        dims.n_ctx_train <= 0 || dims.n_head % dims.n_head_kv != 0) {
        return status::failure(ERR_MODEL_INVALID, "the GGUF lacks a usable block_count, embedding_length, "
                               "feed_forward_length, context_length or attention.head_count");
    }
    if (meta.integer(arch + "expert_count", 0) > 0) {
        return status::failure(ERR_UNSUPPORTED, "mixture-of-experts models are not served");
    }
    dims.head_dim    = meta.integer(arch + "attention.key_length", dims.n_embd / dims.n_head);
    dims.rope_dim    = meta.integer(arch + "rope.dimension_count", dims.head_dim);
    dims.rope_base   = meta.number(arch + "rope.freq_base", 10000.0f);
    dims.rms_epsilon = meta.number(arch + "attention.layer_norm_rms_epsilon", 1e-5f);
    if (dims.head_dim <= 0 || dims.head_dim % 16 != 0 || dims.rope_dim <= 0 || dims.rope_dim > dims.head_dim) {
        return status::failure(ERR_UNSUPPORTED, "attention heads must be a multiple of 16 values long");
    }
    const std::string scaling = meta.text(arch + "rope.scaling.type");
    if (!scaling.empty() && scaling != "none" && scaling != "linear") {
        return status::failure(ERR_UNSUPPORTED, "RoPE scaling '" + scaling + "' is not served");
    }
    if (scaling == "linear") {
        const float factor = meta.number(arch + "rope.scaling.factor", 1.0f);
        dims.rope_scale = factor > 0 ? 1.0f / factor : 1.0f;
    }
    return status::success();
}

status model::bind(ggml_tensor ** out, const std::string & name, int64_t ne0, int64_t ne1) {
    ggml_tensor * tensor = ggml_get_tensor(context, name.c_str());
    if (!tensor) {
        return status::failure(ERR_MODEL_INVALID, "tensor " + name + " is missing");
    }
    if (tensor->ne[0] != ne0 || tensor->ne[1] != ne1 || tensor->ne[2] != 1 || tensor->ne[3] != 1) {
        return status::failure(ERR_MODEL_INVALID, "tensor " + name + " has the wrong shape");
    }
    const bool is_norm = ne1 == 1;
    if (is_norm && tensor->type != GGML_TYPE_F32) {
        return status::failure(ERR_MODEL_INVALID, "tensor " + name + " must be F32");
    }
    *out = tensor;
    return status::success();
}

status model::bind_tensors() {
    static const char * const names[TARGET_COUNT] = {
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
    };
    ggml_tensor * embeddings = ggml_get_tensor(context, "token_embd.weight");
    if (!embeddings) {
        return status::failure(ERR_MODEL_INVALID, "tensor token_embd.weight is missing");
    }
    dims.n_vocab = (int) embeddings->ne[1];
    status result = bind(&token_embd, "token_embd.weight", dims.n_embd, dims.n_vocab);
    if (result.ok()) {
        result = bind(&output_norm, "output_norm.weight", dims.n_embd, 1);
    }
    output = token_embd;
    if (result.ok() && ggml_get_tensor(context, "output.weight")) {
        result = bind(&output, "output.weight", dims.n_embd, dims.n_vocab);
    }
    if (result.ok() && ggml_get_tensor(context, "rope_freqs.weight")) {
        result = bind(&rope_freqs, "rope_freqs.weight", dims.rope_dim / 2, 1);
    }
    layers.resize(dims.n_layer);
    for (int il = 0; il < dims.n_layer && result.ok(); ++il) {
        const std::string prefix = "blk." + std::to_string(il) + ".";
        result = bind(&layers[il].attn_norm, prefix + "attn_norm.weight", dims.n_embd, 1);
        if (result.ok()) {
            result = bind(&layers[il].ffn_norm, prefix + "ffn_norm.weight", dims.n_embd, 1);
        }
        for (int target = 0; target < TARGET_COUNT && result.ok(); ++target) {
            result = bind(&layers[il].linear[target], prefix + names[target] + ".weight",
                          dims.target_n_in(target), dims.target_n_out(target));
            if (result.ok() && ggml_get_tensor(context, (prefix + names[target] + ".bias").c_str())) {
                result = status::failure(ERR_UNSUPPORTED, "bias " + prefix + names[target] + " is not served");
            }
        }
    }
    return result;
}

status model::map_weights(const std::string & path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) {
        if (file >= 0) {
            close(file);
        }
        return status::failure(ERR_MODEL_NOT_FOUND, "cannot open " + path);
    }
    mapping_size = (size_t) about.st_size;
    mapping      = mmap(nullptr, mapping_size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapping == MAP_FAILED) {
        mapping = nullptr;
        return status::failure(ERR_OUT_OF_MEMORY, "cannot map " + path);
    }
    for (int64_t i = 0; i < gguf_get_n_tensors(gguf); ++i) {
        const char  * name   = gguf_get_tensor_name(gguf, i);
        ggml_tensor * tensor = ggml_get_tensor(context, name);
        const size_t  begin  = gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, i);
        if (begin > mapping_size || ggml_nbytes(tensor) > mapping_size - begin) {
            return status::failure(ERR_MODEL_INVALID, std::string("the file ends inside tensor ") + name);
        }
        tensor->data = (uint8_t *) mapping + begin;
    }
    return status::success();
}

status model::read_weights(const std::string & path) {
    std::unique_ptr<FILE, int (*)(FILE *)> file(fopen(path.c_str(), "rb"), fclose);
    std::vector<char> chunk(8u << 20);
    for (int64_t i = 0; i < gguf_get_n_tensors(gguf); ++i) {
        const char  * name   = gguf_get_tensor_name(gguf, i);
        ggml_tensor * tensor = ggml_get_tensor(context, name);
        const size_t  begin  = gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, i);
        const size_t  size   = ggml_nbytes(tensor);
        if (fseeko(file.get(), (off_t) begin, SEEK_SET) != 0) {
            return status::failure(ERR_MODEL_INVALID, std::string("cannot reach tensor ") + name);
        }
        for (size_t done = 0; done < size;) {
            const size_t part = std::min(chunk.size(), size - done);
            if (fread(chunk.data(), 1, part, file.get()) != part) {
                return status::failure(ERR_MODEL_INVALID, std::string("the file ends inside tensor ") + name);
            }
            ggml_backend_tensor_set(tensor, chunk.data(), done, part);
            done += part;
        }
    }
    return status::success();
}

} // namespace nozzle
