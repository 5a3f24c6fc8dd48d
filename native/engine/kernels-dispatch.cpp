// Which instruction set the kernels run on, decided once from the processor.
#include "kernels.h"

#include <cstring>
#include <initializer_list>

namespace nozzle {

namespace scalar { extern const kernel_set kernels; }
#if defined(NOZZLE_HAVE_X86_KERNELS)
namespace avx2   { extern const kernel_set kernels; }
namespace avx512 { extern const kernel_set kernels; }
#endif
#if defined(NOZZLE_HAVE_NEON_KERNELS)
namespace neon   { extern const kernel_set kernels; }
#endif

const kernel_set * kernels_by_name(const char * name) {
#if defined(NOZZLE_HAVE_X86_KERNELS)
    if (strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
        return &avx512::kernels;
    }
    if (strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
        return &avx2::kernels;
    }
#endif
#if defined(NOZZLE_HAVE_NEON_KERNELS)
    if (strcmp(name, "neon") == 0) {
        return &neon::kernels;
    }
#endif
    return strcmp(name, "scalar") == 0 ? &scalar::kernels : nullptr;
}

const kernel_set & kernels_best() {
    for (const char * name : { "avx512", "avx2", "neon" }) {
        if (const kernel_set * found = kernels_by_name(name)) {
            return *found;
        }
    }
    return scalar::kernels;
}

} // namespace nozzle
