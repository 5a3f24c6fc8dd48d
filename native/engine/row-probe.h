// Whether a weight's matrix product gives a row the same bits alone as in company. Some ggml kernels
// sum a single row in another order than several; a step of one row is then computed as two, so that
// no answer depends on what else was running.
#pragma once

struct ggml_tensor;
struct ggml_backend;

namespace nozzle {

// Tries it on the weight itself with a fixed row. True also where the trial could not run.
bool single_row_differs(ggml_tensor * weight, ggml_backend * backend);

} // namespace nozzle
