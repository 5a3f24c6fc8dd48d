// From how many rows on a weight's matrix product gives a row the same bits whatever runs beside it.
// Some ggml kernels sum few rows in another order than many; smaller steps are then filled up with
// rows of zeros, so that no answer depends on what else was running.
#pragma once

struct ggml_tensor;
struct ggml_backend;

namespace nozzle {

// Tries it on the weight itself with fixed rows; 1 = every number of rows agrees.
int rows_until_stable(ggml_tensor * weight, ggml_backend * backend);

} // namespace nozzle
