#include "device-bank.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>
#include <functional>

namespace nozzle {

// ggml-cuda's product by id takes inner dimensions in multiples of this; others wait for the host.
static constexpr int64_t WIDTH_STEP = 64;
// A long input is cut into parts of this or less, where it divides so: a product of few rows is otherwise
// left to few multiprocessors.
static constexpr int64_t PART_MAX   = 512;
static constexpr int64_t HALF       = sizeof(uint16_t);
static constexpr int     PIECE_TENSORS = 16;

// One target over neighbouring layers that lie at equal distances in the payload.
struct device_bank::piece {
    int     target, rank, first_layer, n_layers;
    int64_t a_offset, a_stride, b_offset, b_stride; // bytes
    std::vector<float> scales;
};

static const int GROUP_TARGETS[device_bank::GROUP_COUNT][2] = {
    { TARGET_ATTN_Q, 3 }, { TARGET_ATTN_OUTPUT, 1 }, { TARGET_FFN_GATE, 2 }, { TARGET_FFN_DOWN, 1 },
};

device_group device_bank::group_of(int group, const model_dims & dims, int rank_max) {
    device_group g = { GROUP_TARGETS[group][0], GROUP_TARGETS[group][1], 0, 1, 0, 0 };
    g.n_in  = dims.target_n_in(g.first);
    const int64_t steps = g.n_in / WIDTH_STEP;
    for (int64_t n = 1; g.n_in % WIDTH_STEP == 0 && n <= steps && g.n_in / g.n_parts > PART_MAX; ++n) {
        g.n_parts = steps % n == 0 ? n : g.n_parts;
    }
    g.width = ((int64_t) g.count * rank_max + WIDTH_STEP - 1) / WIDTH_STEP * WIDTH_STEP;
    for (int t = 0; t < g.count; ++t) {
        g.n_out += dims.target_n_out(g.first + t);
    }
    return g;
}

// What laying a whole pack out takes at most: the largest target, scaled and turned.
static size_t layout_bytes(const model_dims & dims, int rank_max) {
    size_t largest = 0;
    for (int target = 0; target < TARGET_COUNT; ++target) {
        largest = std::max(largest, (size_t) dims.target_n_out(target) * rank_max * dims.n_layer * HALF);
    }
    return 2 * largest;
}

size_t device_bank::bytes_needed(const model_dims & dims, int n_slots, int rank_max) {
    size_t values = 0;
    for (int i = 0; i < GROUP_COUNT; ++i) {
        const device_group g = group_of(i, dims, rank_max);
        values += g.width * (g.n_in + g.n_out);
    }
    return values * HALF * (n_slots + 1) * dims.n_layer + slot_payload_bytes(dims, rank_max) + layout_bytes(dims, rank_max);
}

status device_bank::check_sizes(const model_dims & dims, int n_slots, int rank_max) {
    for (int i = 0; i < GROUP_COUNT; ++i) {
        const device_group g = group_of(i, dims, rank_max);
        // Of 2^14, 2^27 and 2^17 at most: within 64 bits.
        if (g.width * std::max(g.n_in, g.n_out) * (n_slots + 1) > INT32_MAX) {
            return status::failure(ERR_INVALID_ARGUMENT, std::to_string(n_slots) + " slots of rank " + std::to_string(rank_max) +
                                   " are more than a device can count in one layer; lower the slots or the largest rank");
        }
    }
    return status::success();
}

device_bank::~device_bank() {
    if (allocator) {
        ggml_gallocr_free(allocator);
    }
    if (buffer) {
        ggml_backend_buffer_free(buffer);
    }
    if (context) {
        ggml_free(context);
    }
    if (copier) {
        ggml_backend_free(copier);
    }
}

status device_bank::allocate(const model_dims & model, int n_slots, int rank_max, const device & on) {
    size_slots(model, n_slots, rank_max);
    where = &on;
    held.assign(n_slots + 1, std::vector<int>((size_t) dims.n_layer * TARGET_COUNT, 0));
    const auto no_memory = [&] {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for " + std::to_string(n_slots) + " adapter slots: " +
                               std::to_string(bytes_needed(model, n_slots, rank_max)) + " bytes on " + on.name());
    };
    copier = on.make_copy_backend();
    const size_t n_tensors = GROUP_COUNT * (2 + 2 * (size_t) dims.n_layer) + 2;
    const ggml_init_params params = { ggml_tensor_overhead() * n_tensors, nullptr, /*no_alloc*/ true };
    context = ggml_init(params);
    if (!copier || !context) {
        return no_memory();
    }
    landing = ggml_new_tensor_1d(context, GGML_TYPE_F16, bytes_per_slot / HALF);
    scales  = ggml_new_tensor_1d(context, GGML_TYPE_F32, (int64_t) dims.n_layer * TARGET_COUNT);
    for (int i = 0; i < GROUP_COUNT; ++i) {
        const device_group g = group_of(i, dims, rank_max);
        banks[i].a = ggml_new_tensor_4d(context, GGML_TYPE_F16, g.n_in / g.n_parts, g.width, (n_slots + 1) * g.n_parts, dims.n_layer);
        banks[i].b = ggml_new_tensor_4d(context, GGML_TYPE_F16, g.width, g.n_out, n_slots + 1, dims.n_layer);
        for (int il = 0; il < dims.n_layer; ++il) {
            const auto layer_of = [&](ggml_tensor * t) {
                return ggml_view_3d(context, t, t->ne[0], t->ne[1], t->ne[2], t->nb[1], t->nb[2], il * t->nb[3]);
            };
            banks[i].a_layers.push_back(layer_of(banks[i].a));
            banks[i].b_layers.push_back(layer_of(banks[i].b));
        }
    }
    buffer = ggml_backend_alloc_ctx_tensors(context, copier);
    allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(copier));
    if (!buffer || !allocator) {
        return no_memory();
    }
    ggml_backend_buffer_clear(buffer, 0);
    return status::success();
}

void device_bank::unpin(const void * payload) {
    const std::lock_guard<std::mutex> hold(loading);
    where->unpin(payload);
}

std::vector<device_bank::piece> device_bank::pieces_of(std::vector<lora_module> modules) const {
    std::sort(modules.begin(), modules.end(), [](const lora_module & x, const lora_module & y) {
        return x.target != y.target ? x.target < y.target : x.layer < y.layer;
    });
    std::vector<piece> pieces;
    for (const lora_module & m : modules) {
        if (!pieces.empty()) {
            piece & last = pieces.back();
            const int64_t a_step = m.a_offset - last.a_offset, b_step = m.b_offset - last.b_offset;
            const bool follows = last.target == m.target && last.rank == m.rank && m.layer == last.first_layer + last.n_layers;
            if (follows && last.n_layers == 1 && a_step > 0 && b_step > 0) {
                last.a_stride = a_step;
                last.b_stride = b_step;
            }
            if (follows && a_step == last.n_layers * last.a_stride && b_step == last.n_layers * last.b_stride) {
                last.n_layers++;
                last.scales.push_back(m.scale);
                continue;
            }
        }
        const int64_t a_bytes = (int64_t) m.rank * m.n_in * HALF, b_bytes = (int64_t) m.rank * m.n_out * HALF;
        pieces.push_back({ m.target, m.rank, m.layer, 1, m.a_offset, a_bytes, m.b_offset, b_bytes, { m.scale } });
    }
    return pieces;
}

// Both banks of every group and layer where `slot` holds more than zeros.
void device_bank::zero(int slot) {
    for (const bank & b : banks) {
        for (int il = 0; il < dims.n_layer; ++il) {
            for (ggml_tensor * t : { b.a, b.b }) {
                const size_t slot_size = t->nb[3] / held.size();
                ggml_backend_tensor_memset(t, 0, il * t->nb[3] + slot * slot_size, slot_size);
            }
        }
    }
    std::fill(held[slot].begin(), held[slot].end(), 0);
}

status device_bank::load(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) {
    const status result = check(modules, size);
    if (!result.ok()) {
        return result;
    }
    const std::lock_guard<std::mutex> hold(loading);
    clear(slot);
    std::vector<int> ranks((size_t) dims.n_layer * TARGET_COUNT, 0);
    for (const lora_module & m : modules) {
        ranks[(size_t) m.layer * TARGET_COUNT + m.target] = m.rank;
    }
    const auto shrinks = [](int before, int now) { return before > now; };
    if (!std::equal(held[slot].begin(), held[slot].end(), ranks.begin(), std::not_fn(shrinks))) {
        zero(slot);
    }
    held[slot] = std::move(ranks);
    ggml_backend_tensor_set_async(copier, landing, payload, 0, size);

    const std::vector<piece> pieces = pieces_of(modules);
    const size_t n_tensors = pieces.size() * PIECE_TENSORS + 1;
    const ggml_init_params params = {
        ggml_tensor_overhead() * n_tensors + ggml_graph_overhead_custom(n_tensors, false), nullptr, /*no_alloc*/ true,
    };
    ggml_context * c = ggml_init(params);
    ggml_cgraph * graph = c ? ggml_new_graph_custom(c, n_tensors, false) : nullptr;
    std::vector<float> factors;
    for (const piece & p : pieces) {
        if (!graph) {
            break;
        }
        int group = 0;
        while (p.target >= GROUP_TARGETS[group][0] + GROUP_TARGETS[group][1]) {
            group++;
        }
        const int64_t column = (int64_t) (p.target - GROUP_TARGETS[group][0]) * rank_limit;
        int64_t row = 0;
        for (int t = GROUP_TARGETS[group][0]; t < p.target; ++t) {
            row += dims.target_n_out(t);
        }
        const int64_t n_in = dims.target_n_in(p.target), n_out = dims.target_n_out(p.target);
        ggml_tensor * a = banks[group].a;
        ggml_tensor * b = banks[group].b;

        const int64_t part = a->ne[0], n_parts = n_in / part;
        ggml_tensor * from = ggml_view_4d(c, landing, part, n_parts, p.rank, p.n_layers, part * HALF, n_in * HALF, p.a_stride,
                                          p.a_offset);
        ggml_tensor * to   = ggml_view_4d(c, a, part, n_parts, p.rank, p.n_layers, a->nb[2], a->nb[1], a->nb[3],
                                          p.first_layer * a->nb[3] + slot * n_parts * a->nb[2] + column * a->nb[1]);
        ggml_build_forward_expand(graph, ggml_cpy(c, from, to));

        // The scale goes into B. ggml-cuda's transposing copy takes no gaps in its target: two copies.
        from = ggml_view_3d(c, landing, n_out, p.rank, p.n_layers, n_out * HALF, p.b_stride, p.b_offset);
        ggml_tensor * scale  = ggml_view_3d(c, scales, 1, 1, p.n_layers, sizeof(float), sizeof(float), factors.size() * sizeof(float));
        ggml_tensor * turned = ggml_cont(c, ggml_transpose(c, ggml_mul(c, from, scale))); // F16 [rank, n_out, n_layers]
        const size_t b_begin = p.first_layer * b->nb[3] + slot * b->nb[2] + row * b->nb[1] + column * HALF;
        if (p.rank == 1) {
            // One column: ggml-cuda would take the source for a transposed one, and its transposing copy again.
            turned = ggml_view_4d(c, turned, 1, 1, p.n_layers, n_out, turned->nb[1], turned->nb[2], turned->nb[1], 0);
            to = ggml_view_4d(c, b, 1, 1, p.n_layers, n_out, b->nb[1], b->nb[3], b->nb[1], b_begin);
        } else {
            to = ggml_view_3d(c, b, p.rank, n_out, p.n_layers, b->nb[1], b->nb[3], b_begin);
        }
        ggml_build_forward_expand(graph, ggml_cpy(c, turned, to));
        factors.insert(factors.end(), p.scales.begin(), p.scales.end());
    }
    bool done = graph && ggml_gallocr_alloc_graph(allocator, graph);
    if (done) {
        ggml_backend_tensor_set_async(copier, scales, factors.data(), 0, factors.size() * sizeof(float));
        done = ggml_backend_graph_compute_async(copier, graph) == GGML_STATUS_SUCCESS;
    }
    ggml_backend_synchronize(copier);
    ggml_free(c);
    if (!done) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory to lay an adapter out on the device");
    }
    loaded[slot] = 1;
    return status::success();
}

} // namespace nozzle
