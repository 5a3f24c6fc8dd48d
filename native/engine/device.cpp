#include "device.h"

#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include <dlfcn.h>

namespace nozzle {

// They print through a callback.
void load_backends(const std::string & library_dir, const std::string & cuda_library) {
    static std::mutex lock;
    static bool has_cpu = false, has_cuda = false;
    const std::lock_guard<std::mutex> hold(lock);
    if (!has_cpu) {
        const auto mute = [](ggml_log_level, const char *, void *) {};
        ggml_log_set(mute, nullptr);
        llama_log_set(mute, nullptr);
        ggml_backend_load_all_from_path(library_dir.c_str());
        llama_backend_init();
        has_cpu = true;
    }
    // ggml-cuda pins memory only where this is set.
    setenv("GGML_CUDA_REGISTER_HOST", "1", 0);
    if (!has_cuda && !cuda_library.empty() && !ggml_backend_reg_by_name("CUDA")) {
        has_cuda = ggml_backend_load(cuda_library.c_str()) != nullptr;
    }
}

device::~device() {
    if (handle) {
        ggml_backend_free(handle);
    }
}

static ggml_backend_dev_t find_cuda() {
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("CUDA");
    return reg && ggml_backend_reg_dev_count(reg) > 0 ? ggml_backend_reg_dev_get(reg, 0) : nullptr;
}

status device::open(const std::string & name) {
    if (name != "auto" && name != "cpu" && name != "cuda") {
        return status::failure(ERR_INVALID_ARGUMENT, "device '" + name + "' is none of auto, cpu and cuda");
    }
    ggml_backend_dev_t cuda = name == "cpu" ? nullptr : find_cuda();
    if (!cuda) {
        return name == "cuda" ? status::failure(ERR_BACKEND, "no CUDA device: ggml's CUDA library is missing or could "
                                                "not be loaded, or the driver offers no device")
                              : open_cpu();
    }
    handle = ggml_backend_dev_init(cuda, nullptr);
    if (!handle) {
        return status::failure(ERR_BACKEND, std::string("the device ") + ggml_backend_dev_name(cuda) + " could not be opened");
    }
    dev   = cuda;
    cpu   = false;
    label = std::string(ggml_backend_dev_name(cuda)) + " " + ggml_backend_dev_description(cuda);
    return status::success();
}

static void * find_proc(ggml_backend_dev_t dev, const char * name) {
    return ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev), name);
}

status device::open_cpu() {
    handle = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    if (!handle) {
        return status::failure(ERR_BACKEND, "no ggml CPU library fits this processor");
    }
    dev   = ggml_backend_get_device(handle);
    label = "cpu";
    // The library is loaded by ggml, out of the linker's sight: any of its functions tells where it lies.
    void * known = find_proc(dev, "ggml_backend_set_n_threads");
    Dl_info where;
    void * library = known && dladdr(known, &where) ? dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD) : nullptr;
    if (library) {
        by_type = (cpu_traits_fn) dlsym(library, "ggml_get_type_traits_cpu");
        dlclose(library); // ggml keeps it
    }
    return by_type ? status::success()
                   : status::failure(ERR_BACKEND, "ggml's CPU library lacks ggml_get_type_traits_cpu");
}

static void set_threads(ggml_backend_dev_t dev, ggml_backend_t backend, int n_threads) {
    const auto set = (ggml_backend_set_n_threads_t) find_proc(dev, "ggml_backend_set_n_threads");
    if (set) {
        set(backend, n_threads);
    }
}

void device::use_threads(int n_threads) {
    if (cpu) {
        set_threads(dev, handle, n_threads);
    }
}

ggml_backend_t device::make_copy_backend() const {
    ggml_backend_t made = ggml_backend_dev_init(dev, nullptr);
    if (made && cpu) {
        set_threads(dev, made, 1);
    }
    return made;
}

ggml_backend_buffer_t device::make_host_buffer(size_t size) const {
    ggml_backend_buffer_type_t pinned = ggml_backend_dev_host_buffer_type(dev);
    return ggml_backend_buft_alloc_buffer(pinned ? pinned : ggml_backend_cpu_buffer_type(), size);
}

bool device::pin(const void * data, size_t size) const {
    const auto take = (bool (*)(void *, size_t)) find_proc(dev, "ggml_backend_register_host_buffer");
    return !cpu && take && take(const_cast<void *>(data), size);
}

void device::unpin(const void * data) const {
    const auto leave = (void (*)(void *)) find_proc(dev, "ggml_backend_unregister_host_buffer");
    if (!cpu && leave) {
        leave(const_cast<void *>(data));
    }
}

// One number of a small text file; `fallback` when it is not there or says "max".
static size_t read_number(const char * path, const char * key, size_t fallback) {
    FILE * file = fopen(path, "r");
    if (!file) {
        return fallback;
    }
    char line[256];
    size_t value = fallback;
    while (fgets(line, sizeof(line), file)) {
        if (strncmp(line, key, strlen(key)) == 0) {
            unsigned long long number = 0;
            if (sscanf(line + strlen(key), "%llu", &number) == 1) {
                value = (size_t) number;
            }
            break;
        }
    }
    fclose(file);
    return value;
}

size_t device::bytes_available() const {
    if (!cpu) {
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(dev, &free, &total);
        return free;
    }
    const size_t machine = read_number("/proc/meminfo", "MemAvailable:", SIZE_MAX / 1024) * 1024;
    // A container's own bound, where it has one.
    const size_t limit = read_number("/sys/fs/cgroup/memory.max", "", SIZE_MAX);
    const size_t used  = read_number("/sys/fs/cgroup/memory.current", "", 0);
    return std::min(machine, limit - std::min(limit, used));
}

} // namespace nozzle
