// Rotary position embeddings of one model for runners that rotate heads themselves: angles per
// position with every scaling folded in. What they are is stated by rope_params.
#pragma once

#include <vector>

#include "model-dims.h"

namespace nozzle {

class rope_table {
  public:
    // factors: F32 [head_dim / 2], the model's frequency divisors; nullptr = none.
    void init(const model_dims & dims, const float * factors);

    // Cosines, then sines of a position, scaled; F32 [head_dim / 2] each.
    void fill(int position, float * cosines) const;

    // Turns one head F32 [head_dim] by what `fill` gave.
    void rotate(const float * cosines, float * head) const;

  private:
    std::vector<double> frequencies; // [head_dim / 2], radians per position
    double magnitude = 1.0;
    int    partner   = 1; // of pair i: its values stand at i * stride and i * stride + partner
    int    stride    = 2;
};

} // namespace nozzle
