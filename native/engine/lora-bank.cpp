#include "lora-bank.h"

#include <algorithm>
#include <cstring>

namespace nozzle {

// One step reads the same place of many slots: apart by a whole number of pages they would all fall into
// the same few lines of the cache.
static constexpr size_t SLOT_STAGGER = 17 * LORA_BLOCK_ALIGN;
static constexpr int    RANK_COMMON  = 16;

static size_t align_block(size_t size) {
    return (size + LORA_BLOCK_ALIGN - 1) / LORA_BLOCK_ALIGN * LORA_BLOCK_ALIGN;
}

size_t slot_payload_bytes(const model_dims & dims, int rank_max) {
    size_t bytes = 0;
    for (int target = 0; target < TARGET_COUNT; ++target) {
        const size_t a = align_block((size_t) rank_max * dims.target_n_in(target) * sizeof(uint16_t));
        const size_t b = align_block((size_t) rank_max * dims.target_n_out(target) * sizeof(uint16_t));
        bytes += dims.n_layer * (a + b);
    }
    return bytes;
}

void slot_bank::size_slots(const model_dims & model, int n_slots, int rank_max) {
    dims           = model;
    slot_count     = n_slots;
    rank_limit     = rank_max;
    bytes_per_slot = slot_payload_bytes(model, rank_max);
    loaded.assign(n_slots + 1, 0);
    loaded[0] = 1;
}

status lora_bank::allocate(const model_dims & model, int n_slots, int rank_max) {
    size_slots(model, n_slots, rank_max);
    stride = bytes_per_slot + SLOT_STAGGER;
    if (!arena.reserve(stride * n_slots)) {
        return status::failure(ERR_OUT_OF_MEMORY, "no memory for " + std::to_string(n_slots) + " adapter slots of " +
                               std::to_string(bytes_per_slot) + " bytes");
    }
    // Touched now, so that the first swap of a common rank pays for a copy and not for page faults.
    common = slot_payload_bytes(dims, std::min(rank_max, RANK_COMMON));
    touched.assign(n_slots + 1, common);
    for (int slot = 0; slot < n_slots; ++slot) {
        memset(arena.data() + slot * stride, 0, common);
    }
    views.assign((size_t) (n_slots + 1) * dims.n_layer * TARGET_COUNT, {});
    return status::success();
}

status slot_bank::check(const std::vector<lora_module> & modules, size_t size) const {
    const auto mismatch = [](const std::string & why) { return status::failure(ERR_PACK_MISMATCH, why); };
    if (size > bytes_per_slot) {
        return mismatch("the pack is larger than a slot; raise the host's rank_max");
    }
    // No sum with an offset, which may be any number.
    const auto lies_outside = [size](int64_t offset, int64_t n_values) {
        const int64_t bytes = n_values * (int64_t) sizeof(uint16_t);
        return offset < 0 || offset % LORA_BLOCK_ALIGN != 0 || bytes > (int64_t) size || offset > (int64_t) size - bytes;
    };
    std::vector<uint8_t> seen((size_t) dims.n_layer * TARGET_COUNT, 0);
    for (const lora_module & m : modules) {
        const std::string where = "module " + std::to_string(m.layer) + "/" + std::to_string(m.target);
        if (m.layer < 0 || m.layer >= dims.n_layer || m.target < 0 || m.target >= TARGET_COUNT) {
            return mismatch(where + " does not exist in this base model");
        }
        if (m.n_in != dims.target_n_in(m.target) || m.n_out != dims.target_n_out(m.target)) {
            return mismatch(where + " has the shape of another base model");
        }
        if (m.rank < 1 || m.rank > rank_limit) {
            return mismatch(where + " has rank " + std::to_string(m.rank) + ", this host takes 1 to " +
                            std::to_string(rank_limit));
        }
        if (lies_outside(m.a_offset, (int64_t) m.rank * m.n_in) || lies_outside(m.b_offset, (int64_t) m.rank * m.n_out)) {
            return mismatch(where + " points outside the payload");
        }
        if (seen[(size_t) m.layer * TARGET_COUNT + m.target]++) {
            return mismatch(where + " appears twice");
        }
    }
    return status::success();
}

status lora_bank::load(int slot, const std::vector<lora_module> & modules, const uint8_t * payload, size_t size) {
    const status result = check(modules, size);
    if (!result.ok()) {
        return result;
    }
    clear(slot);
    const size_t begin  = (size_t) (slot - 1) * stride;
    uint8_t * base = arena.data() + begin;
    memcpy(base, payload, size);
    // What a larger adapter left behind goes back to the machine.
    const size_t kept = std::max(size, common);
    if (touched[slot] > kept) {
        arena.release(begin + kept, begin + touched[slot]);
    }
    touched[slot] = kept;
    for (const lora_module & m : modules) {
        lora_view & v = views[((size_t) slot * dims.n_layer + m.layer) * TARGET_COUNT + m.target];
        v.a     = (const uint16_t *) (base + m.a_offset);
        v.bt    = (const uint16_t *) (base + m.b_offset);
        v.rank  = m.rank;
        v.scale = m.scale;
    }
    loaded[slot] = 1;
    return status::success();
}

void lora_bank::clear(int slot) {
    const size_t per_slot = (size_t) dims.n_layer * TARGET_COUNT;
    std::fill(views.begin() + slot * per_slot, views.begin() + (slot + 1) * per_slot, lora_view());
    slot_bank::clear(slot);
}

} // namespace nozzle
