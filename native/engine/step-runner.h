// Computes a step's logits. Two implementations: `graph_runner`, a graph of ggml operators for any
// backend, and the CPU's own executor in cpu/, which runs the same model without a graph.
#pragma once

#include "batch.h"
#include "status.h"

namespace nozzle {

class step_runner {
  public:
    virtual ~step_runner() = default;

    // Runs a checked batch and fills the KV cells of its rows. `logits` receives a pointer to F32
    // [n_vocab, n_outputs], valid until the next call; nullptr when the batch has no outputs.
    virtual status run(const batch & rows, const float ** logits) = 0;
};

} // namespace nozzle
