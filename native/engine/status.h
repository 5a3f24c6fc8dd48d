// Outcome of an engine call. No exception crosses engine.h; the addon turns a failed status into an
// EngineError whose `code` is the name below.
#pragma once

#include <string>
#include <utility>

namespace nozzle {

struct status {
    const char * code = nullptr; // nullptr = ok; else a stable snake_case name
    std::string  message;

    bool ok() const { return code == nullptr; }

    static status success() { return {}; }
    static status failure(const char * code, std::string message) { return { code, std::move(message) }; }
};

// Codes, each used for exactly one kind of trouble.
inline constexpr const char * ERR_INVALID_ARGUMENT = "invalid_argument";
inline constexpr const char * ERR_INVALID_GRAMMAR  = "invalid_grammar";
inline constexpr const char * ERR_GRAMMARS_FULL    = "grammars_full";
inline constexpr const char * ERR_MODEL_NOT_FOUND  = "model_not_found";
inline constexpr const char * ERR_MODEL_INVALID    = "model_invalid";
inline constexpr const char * ERR_UNSUPPORTED      = "unsupported_architecture";
inline constexpr const char * ERR_OUT_OF_MEMORY    = "out_of_memory";
inline constexpr const char * ERR_PACK_MISMATCH    = "pack_mismatch";
inline constexpr const char * ERR_SLOT_EMPTY       = "slot_empty";
inline constexpr const char * ERR_BACKEND          = "backend_failed";

} // namespace nozzle
