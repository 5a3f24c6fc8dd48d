// The device that computes: found and opened at start, with the memory it has left. Nothing else of the
// engine asks which devices there are.
#pragma once

#include <cstddef>
#include <string>

#include "cpu/packed-matrix.h"
#include "status.h"

typedef struct ggml_backend * ggml_backend_t;
typedef struct ggml_backend_buffer * ggml_backend_buffer_t;
typedef struct ggml_backend_device * ggml_backend_dev_t;

namespace nozzle {

// Loads ggml's backend libraries once per process: the CPU's from `library_dir`, and `cuda_library` (a
// file) unless it is empty or cannot be loaded.
void load_backends(const std::string & library_dir, const std::string & cuda_library);

class device {
  public:
    ~device();
    // `name`: auto | cpu | cuda; auto is a CUDA device where there is one. Fails with backend_failed.
    status open(const std::string & name);
    // Threads of the CPU's graphs; nothing on other devices.
    void   use_threads(int n_threads);

    ggml_backend_t backend() const { return handle; }
    // A second instance on the same device: on CUDA its copies run on a stream of their own, beside a
    // step. The caller frees it. nullptr: it could not be made.
    ggml_backend_t make_copy_backend() const;

    // Host memory that the device copies to by itself where it can, else plain memory. The caller frees
    // it. nullptr: there is none.
    ggml_backend_buffer_t make_host_buffer(size_t size) const;

    // Makes host memory one that the device copies from by itself, beside what this process does. False:
    // it stays as it is, and copies from it are slower. The memory must outlive unpin.
    bool pin(const void * data, size_t size) const;
    void unpin(const void * data) const;

    bool is_cpu() const { return cpu; }
    cpu_traits_fn cpu_traits() const { return by_type; } // nullptr on other devices
    std::string name() const { return label; } // e.g. "cpu" or "CUDA0 NVIDIA H100 80GB HBM3"
    // Bytes that can still be taken, of the device or of this machine.
    size_t bytes_available() const;

  private:
    status open_cpu();

    ggml_backend_t     handle = nullptr; // owned
    ggml_backend_dev_t dev    = nullptr;
    cpu_traits_fn      by_type = nullptr;
    std::string        label;
    bool               cpu = true;
};

} // namespace nozzle
