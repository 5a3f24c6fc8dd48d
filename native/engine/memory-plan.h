// What the engine takes of a device's memory, reckoned before any of it is taken.
#pragma once

#include <cstddef>
#include <string>

#include "status.h"

namespace nozzle {

class device;
class model;
struct engine_options;

// Bytes.
struct memory_plan {
    size_t weights   = 0;
    size_t slots     = 0;
    size_t kv        = 0; // cells of all sequences
    size_t workspace = 0; // what a step computes on its way; after open what it really is
    size_t workspace_max = 0; // as foretold
    size_t reserve   = 0; // left alone: for the driver, its libraries and everything else
    size_t available = 0; // on the device, before

    size_t needed() const { return weights + slots + kv + workspace + reserve; }
    // out_of_memory with every number and what to lower when it does not fit.
    status check(const device & on) const;
};

// Of a model whose shape is read and whose weights are not yet loaded.
memory_plan plan_memory(const model & base, const engine_options & options, bool is_portable, const device & on);

} // namespace nozzle
