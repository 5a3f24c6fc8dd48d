#include "host-memory.h"

#include <algorithm>

#include <sys/mman.h>

namespace nozzle {

static constexpr size_t HUGE_PAGE   = 2u << 20;
static constexpr size_t REGION_SIZE = 32u << 20;

host_region::~host_region() {
    if (mapped) {
        munmap(mapped, mapped_size);
    }
}

bool host_region::reserve(size_t size) {
    if (mapped) {
        munmap(mapped, mapped_size);
    }
    mapped_size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
    mapped      = mmap(nullptr, mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        mapped = nullptr;
        return false;
    }
    begin = (uint8_t *) (((uintptr_t) mapped + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#if defined(MADV_HUGEPAGE)
    madvise(begin, mapped_size - HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return true;
}

void host_region::release(size_t first, size_t end) {
    const size_t from = (first + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const size_t to   = end / HUGE_PAGE * HUGE_PAGE;
    if (from < to) {
        madvise(begin + from, to - from, MADV_DONTNEED);
    }
}

void * host_arena::take(size_t size) {
    size = (size + 63) / 64 * 64;
    if (used + size > capacity) {
        regions.push_back(std::make_unique<host_region>());
        used     = 0;
        capacity = std::max(size, REGION_SIZE);
        if (!regions.back()->reserve(capacity)) {
            capacity = 0;
            return nullptr;
        }
    }
    void * out = regions.back()->data() + used;
    used += size;
    return out;
}

} // namespace nozzle
