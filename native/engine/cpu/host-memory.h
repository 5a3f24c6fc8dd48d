// Anonymous memory on huge pages where the system has them: weights and slots are read in pieces all
// over, and small pages would cost more address translations than data. Only what is touched is taken
// from the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nozzle {

class host_region {
  public:
    host_region() = default;
    host_region(const host_region &) = delete;
    host_region & operator=(const host_region &) = delete;
    ~host_region();

    // Whole again with every call; false = the system refuses.
    bool      reserve(size_t size);
    uint8_t * data() const { return begin; }
    // Gives the bytes of [first, end) back where they fill pages; they read as 0 afterwards.
    void      release(size_t first, size_t end);

  private:
    uint8_t * begin  = nullptr; // on a huge page's border
    void    * mapped = nullptr; // owned
    size_t    mapped_size = 0;
};

// Hands out 64-byte aligned pieces of regions; all are freed together.
class host_arena {
  public:
    void * take(size_t size); // nullptr = no memory

  private:
    std::vector<std::unique_ptr<host_region>> regions;
    size_t used = 0, capacity = 0;      // of the last one
};

} // namespace nozzle
