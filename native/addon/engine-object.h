// The JS-visible engine. Argument shapes are checked in native/index.ts; what remains here is keeping
// the calls of one engine apart: one step at a time, no slot copied while a step reads it.
#pragma once

#include <memory>
#include <set>

#include <napi.h>

#include "engine.h"

// What the addon keeps per Node environment.
struct AddonData {
    Napi::FunctionReference error_class; // EngineError(code, message), owned by native/index.ts
    Napi::FunctionReference engine_class;
};

// An EngineError made by the JS class, ready to throw or to reject with.
Napi::Value make_engine_error(Napi::Env env, const nozzle::status & status);

class EngineObject : public Napi::ObjectWrap<EngineObject> {
  public:
    static Napi::Function Define(Napi::Env env);
    explicit EngineObject(const Napi::CallbackInfo & info);

    std::shared_ptr<nozzle::engine> engine; // shared with running workers; null once closed

    // Only touched on the JS thread.
    bool          is_stepping = false;
    std::set<int> step_slots;    // slots of the running step
    std::set<int> loading_slots; // slots being copied into

  private:
    Napi::Value JS_info(const Napi::CallbackInfo & info);
    Napi::Value JS_tokenize(const Napi::CallbackInfo & info);
    Napi::Value JS_token_bytes(const Napi::CallbackInfo & info);
    Napi::Value JS_is_end_of_generation(const Napi::CallbackInfo & info);
    Napi::Value JS_load_slot(const Napi::CallbackInfo & info);
    Napi::Value JS_clear_slot(const Napi::CallbackInfo & info);
    Napi::Value JS_pin(const Napi::CallbackInfo & info);
    Napi::Value JS_unpin(const Napi::CallbackInfo & info);
    Napi::Value JS_open_sequence(const Napi::CallbackInfo & info);
    Napi::Value JS_set_pages(const Napi::CallbackInfo & info);
    Napi::Value JS_close_sequence(const Napi::CallbackInfo & info);
    Napi::Value JS_step(const Napi::CallbackInfo & info);
    Napi::Value JS_close(const Napi::CallbackInfo & info);

    void require_open(Napi::Env env) const;
    void require_slot_free(Napi::Env env, int slot) const;
};
