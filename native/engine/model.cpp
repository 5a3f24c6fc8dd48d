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

status model::read_shape(const std::string & path, int n_ctx) {
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
    const status result = read_dims(gguf, n_ctx, dims);
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

// Types that the parity tests cover; ggml has others, and aborts on some of them.
static bool is_served(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32:  case GGML_TYPE_F16:  case GGML_TYPE_BF16:
        case GGML_TYPE_Q4_0: case GGML_TYPE_Q4_1: case GGML_TYPE_Q5_0: case GGML_TYPE_Q5_1: case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q2_K: case GGML_TYPE_Q3_K: case GGML_TYPE_Q4_K: case GGML_TYPE_Q5_K: case GGML_TYPE_Q6_K:
        case GGML_TYPE_IQ3_XXS: case GGML_TYPE_IQ3_S: case GGML_TYPE_IQ4_NL: case GGML_TYPE_IQ4_XS:
            return true;
        default:
            return false;
    }
}

status model::bind(ggml_tensor ** out, const std::string & name, int64_t ne0, int64_t ne1) {
    ggml_tensor * tensor = ggml_get_tensor(context, name.c_str());
    if (!tensor) {
        return status::failure(ERR_MODEL_INVALID, "tensor " + name + " is missing");
    }
    if (tensor->ne[0] != ne0 || tensor->ne[1] != ne1 || tensor->ne[2] != 1 || tensor->ne[3] != 1) {
        return status::failure(ERR_MODEL_INVALID, "tensor " + name + " has the wrong shape");
    }
    const bool is_vector = ne1 == 1;
    if (is_vector && tensor->type != GGML_TYPE_F32) {
        return status::failure(ERR_MODEL_INVALID, "tensor " + name + " must be F32");
    }
    if (!is_served(tensor->type)) {
        return status::failure(ERR_UNSUPPORTED, "tensor " + name + " is of type " + ggml_type_name(tensor->type) +
                               ", which is not served; quantize the model to another one, for example Q8_0 or Q4_K_M");
    }
    bound.insert(name);
    *out = tensor;
    return status::success();
}

status model::bind_optional(ggml_tensor ** out, const std::string & name, int64_t ne0, int64_t ne1) {
    return ggml_get_tensor(context, name.c_str()) ? bind(out, name, ne0, ne1) : status::success();
}

status model::bind_layer(int il) {
    static const char * const names[TARGET_COUNT] = {
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
    };
    model_layer & layer = layers[il];
    const std::string prefix = "blk." + std::to_string(il) + ".";
    status result = bind(&layer.attn_norm, prefix + "attn_norm.weight", dims.n_embd, 1);
    if (result.ok()) {
        result = bind(&layer.ffn_norm, prefix + "ffn_norm.weight", dims.n_embd, 1);
    }
    for (int target = 0; target < TARGET_COUNT && result.ok(); ++target) {
        const int n_out = dims.target_n_out(target);
        result = bind(&layer.linear[target], prefix + names[target] + ".weight", dims.target_n_in(target), n_out);
        if (result.ok()) {
            result = bind_optional(&layer.bias[target], prefix + names[target] + ".bias", n_out, 1);
        }
    }
    if (result.ok() && dims.has_qk_norm) {
        result = bind(&layer.attn_q_norm, prefix + "attn_q_norm.weight", dims.head_dim, 1);
    }
    if (result.ok() && dims.has_qk_norm) {
        result = bind(&layer.attn_k_norm, prefix + "attn_k_norm.weight", dims.head_dim, 1);
    }
    return result;
}

status model::bind_tensors() {
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
    if (result.ok()) {
        result = bind_optional(&output, "output.weight", dims.n_embd, dims.n_vocab);
    }
    if (result.ok()) {
        result = bind_optional(&output_bias, "output.bias", dims.n_vocab, 1);
    }
    if (result.ok() && dims.rope.needs_factors) {
        result = bind(&rope_freqs, dims.rope.factors, dims.head_dim / 2, 1);
    } else if (result.ok() && !dims.rope.factors.empty()) {
        result = bind_optional(&rope_freqs, dims.rope.factors, dims.head_dim / 2, 1);
    }
    // One by one: the file may claim more layers than it has, or than memory holds.
    for (int il = 0; il < dims.n_layer && result.ok(); ++il) {
        layers.emplace_back();
        result = bind_layer(il);
    }
    return result.ok() ? check_all_bound() : result;
}

// A tensor that nothing reads would be a part of the model that is left out.
status model::check_all_bound() const {
    for (ggml_tensor * t = ggml_get_first_tensor(context); t; t = ggml_get_next_tensor(context, t)) {
        const std::string name = t->name;
        const bool is_other_length = dims.rope.needs_factors && name.rfind("rope_factors_", 0) == 0;
        if (!bound.count(name) && !is_other_length) {
            return status::failure(ERR_UNSUPPORTED, "tensor " + name + " is none that a model of architecture " +
                                   dims.architecture + " is served with; use a model without it");
        }
    }
    return status::success();
}

void model::forget_pages() const {
    if (mapping) {
        madvise(mapping, mapping_size, MADV_DONTNEED);
    }
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
