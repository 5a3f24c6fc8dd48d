// ggml's own quantizers as a filter, for tests that need weights of any type.
//
// usage: ggml-quantize quantize|dequantize <type, as ggml names it, in any case>
// quantize: F32 values on stdin, blocks of the type on stdout; dequantize: the other way. Whole rows
// of ROW_VALUES, which is a multiple of every type's block.
#include <strings.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "ggml.h"

static constexpr int64_t ROW_VALUES = 256;

int main(int argc, char ** argv) {
    if (argc != 3) {
        return 2;
    }
    int type = 0;
    while (type < GGML_TYPE_COUNT && (!ggml_type_name((ggml_type) type) ||
                                      strcasecmp(ggml_type_name((ggml_type) type), argv[2]) != 0)) {
        ++type;
    }
    if (type == GGML_TYPE_COUNT) {
        return 3;
    }
    std::vector<uint8_t> in;
    for (uint8_t part[1 << 16]; const size_t n = fread(part, 1, sizeof(part), stdin);) {
        in.insert(in.end(), part, part + n);
    }
    const size_t row_bytes = ggml_row_size((ggml_type) type, ROW_VALUES);
    const bool   is_packing = argv[1] == std::string("quantize");
    const size_t in_row    = is_packing ? ROW_VALUES * sizeof(float) : row_bytes;
    if (in.empty() || in.size() % in_row != 0) {
        return 4;
    }
    const int64_t n_rows = (int64_t) (in.size() / in_row);
    std::vector<uint8_t> out(n_rows * (is_packing ? row_bytes : ROW_VALUES * sizeof(float)));
    if (is_packing) {
        ggml_quantize_chunk((ggml_type) type, (const float *) in.data(), out.data(), 0, n_rows, ROW_VALUES, nullptr);
    } else {
        ggml_get_type_traits((ggml_type) type)->to_float(in.data(), (float *) out.data(), n_rows * ROW_VALUES);
    }
    return fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 5;
}
