// Computes a step's logits. Two implementations: `graph_runner`, a graph of ggml operators for any
// backend, and the CPU's own executor in cpu/, which runs the same model without a graph.
#pragma once

#include <functional>

#include "batch.h"
#include "status.h"

namespace nozzle {

class step_runner {
  public:
    virtual ~step_runner() = default;

    // Runs a checked batch and fills the KV cells of its rows.
    virtual status run(const batch & rows, step_logits & logits) = 0;

    // Calls task(i) for i in [0, n), in any order, perhaps on several threads. It must not throw.
    virtual void for_each(int n, const std::function<void(int)> & task) = 0;
};

} // namespace nozzle
