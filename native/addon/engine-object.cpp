#include "engine-object.h"

#include "workers.h"

using nozzle::status;

Napi::Value make_engine_error(Napi::Env env, const status & s) {
    return env.GetInstanceData<AddonData>()->error_class.New(
        { Napi::String::New(env, s.code), Napi::String::New(env, s.message) });
}

static void throw_status(Napi::Env env, const status & s) {
    throw Napi::Error(env, make_engine_error(env, s));
}

static std::vector<int32_t> copy_integers(const Napi::Value & value) {
    const Napi::Int32Array from = value.As<Napi::Int32Array>();
    return std::vector<int32_t>(from.Data(), from.Data() + from.ElementLength());
}

Napi::Function EngineObject::Define(Napi::Env env) {
    return DefineClass(env, "NativeEngineHandle", {
        InstanceMethod("info", &EngineObject::JS_info),
        InstanceMethod("tokenize", &EngineObject::JS_tokenize),
        InstanceMethod("tokenBytes", &EngineObject::JS_token_bytes),
        InstanceMethod("isEndOfGeneration", &EngineObject::JS_is_end_of_generation),
        InstanceMethod("loadSlot", &EngineObject::JS_load_slot),
        InstanceMethod("clearSlot", &EngineObject::JS_clear_slot),
        InstanceMethod("pin", &EngineObject::JS_pin),
        InstanceMethod("unpin", &EngineObject::JS_unpin),
        InstanceMethod("openSequence", &EngineObject::JS_open_sequence),
        InstanceMethod("setPages", &EngineObject::JS_set_pages),
        InstanceMethod("closeSequence", &EngineObject::JS_close_sequence),
        InstanceMethod("step", &EngineObject::JS_step),
        InstanceMethod("close", &EngineObject::JS_close),
    });
}

EngineObject::EngineObject(const Napi::CallbackInfo & info) : Napi::ObjectWrap<EngineObject>(info) {
    engine = *info[0].As<Napi::External<std::shared_ptr<nozzle::engine>>>().Data();
}

void EngineObject::require_open(Napi::Env env) const {
    if (!engine) {
        throw_status(env, status::failure("engine_closed", "the engine is closed"));
    }
}

void EngineObject::require_slot_free(Napi::Env env, int slot) const {
    if (step_slots.count(slot) || loading_slots.count(slot)) {
        throw_status(env, status::failure("slot_in_use", "slot " + std::to_string(slot) + " is in use by a running step or load"));
    }
}

Napi::Value EngineObject::JS_info(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    require_open(env);
    const nozzle::engine_info & about = engine->info();
    Napi::Object out = Napi::Object::New(env);
    const auto number = [&](const char * key, double value) { out.Set(key, Napi::Number::New(env, value)); };
    out.Set("architecture", about.dims.architecture);
    out.Set("device", about.device);
    out.Set("chatTemplate", about.chat_template);
    out.Set("bosText", about.bos_text);
    out.Set("eosText", about.eos_text);
    number("vocabularySize", about.dims.n_vocab);
    number("embeddingLength", about.dims.n_embd);
    number("feedForwardLength", about.dims.n_ff);
    number("layerCount", about.dims.n_layer);
    number("headCount", about.dims.n_head);
    number("headCountKv", about.dims.n_head_kv);
    number("headLength", about.dims.head_dim);
    number("contextLengthTrained", about.dims.n_ctx_train);
    number("bosToken", about.bos);
    number("eosToken", about.eos);
    number("slotBytes", (double) about.slot_bytes);
    number("pageCount", about.n_pages);
    number("pageCells", about.page_cells);
    number("pageBytes", (double) about.page_bytes);
    Napi::Object memory = Napi::Object::New(env);
    const auto bytes = [&](const char * key, size_t value) { memory.Set(key, Napi::Number::New(env, (double) value)); };
    bytes("weights", about.memory.weights);
    bytes("slots", about.memory.slots);
    bytes("kv", about.memory.kv);
    bytes("workspace", about.memory.workspace);
    bytes("workspaceMax", about.memory.workspace_max);
    bytes("reserve", about.memory.reserve);
    bytes("available", about.memory.available);
    out.Set("memory", memory);
    return out;
}

Napi::Value EngineObject::JS_tokenize(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    const std::vector<int32_t> tokens = engine->tokenize(info[0].As<Napi::String>().Utf8Value(),
        info[1].As<Napi::Boolean>().Value(), info[2].As<Napi::Boolean>().Value());
    Napi::Int32Array out = Napi::Int32Array::New(info.Env(), tokens.size());
    std::copy(tokens.begin(), tokens.end(), out.Data());
    return out;
}

Napi::Value EngineObject::JS_token_bytes(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    const std::string bytes = engine->decode(info[0].As<Napi::Number>().Int32Value());
    return Napi::Buffer<char>::Copy(info.Env(), bytes.data(), bytes.size());
}

Napi::Value EngineObject::JS_is_end_of_generation(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    return Napi::Boolean::New(info.Env(), engine->is_end_of_generation(info[0].As<Napi::Number>().Int32Value()));
}

// (slot, payload: Uint8Array, integers: Float64Array [7 per module], scales: Float32Array)
Napi::Value EngineObject::JS_load_slot(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    require_open(env);
    const int slot = info[0].As<Napi::Number>().Int32Value();
    require_slot_free(env, slot);
    const Napi::Float64Array fields = info[2].As<Napi::Float64Array>();
    const Napi::Float32Array scales = info[3].As<Napi::Float32Array>();
    std::vector<nozzle::lora_module> modules(scales.ElementLength());
    for (size_t i = 0; i < modules.size(); ++i) {
        const double * f = fields.Data() + i * 7;
        modules[i] = { (int32_t) f[0], (int32_t) f[1], (int32_t) f[2], (int32_t) f[3], (int32_t) f[4],
                       (int64_t) f[5], (int64_t) f[6], scales[i] };
    }
    auto * worker = new LoadSlotWorker(env, this, slot, std::move(modules), info[1].As<Napi::Uint8Array>());
    return worker->Start();
}

Napi::Value EngineObject::JS_clear_slot(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    const int slot = info[0].As<Napi::Number>().Int32Value();
    require_slot_free(info.Env(), slot);
    const status result = engine->clear_slot(slot);
    if (!result.ok()) {
        throw_status(info.Env(), result);
    }
    return info.Env().Undefined();
}

// (payload: Uint8Array) -> Promise of whether it is pinned now
Napi::Value EngineObject::JS_pin(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    auto * worker = new PinWorker(info.Env(), engine, info[0].As<Napi::Uint8Array>());
    return worker->Start();
}

// (payload: Uint8Array); its caller keeps the bytes until then
Napi::Value EngineObject::JS_unpin(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    engine->unpin(info[0].As<Napi::Uint8Array>().Data());
    return info.Env().Undefined();
}

// (sequence, options object with every field set)
Napi::Value EngineObject::JS_open_sequence(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    require_open(env);
    if (is_stepping) {
        throw_status(env, status::failure("step_in_flight", "a sequence opens only between two steps"));
    }
    const Napi::Object o = info[1].As<Napi::Object>();
    const auto number = [&](const char * key) { return o.Get(key).As<Napi::Number>().DoubleValue(); };
    nozzle::sampling_options options;
    options.temperature        = (float) number("temperature");
    options.top_p              = (float) number("topP");
    options.top_k              = (int32_t) number("topK");
    options.min_p              = (float) number("minP");
    options.frequency_penalty  = (float) number("frequencyPenalty");
    options.presence_penalty   = (float) number("presencePenalty");
    options.repetition_penalty = (float) number("repetitionPenalty");
    options.seed               = (uint32_t) number("seed");
    options.n_top_logprobs     = (int) number("topLogprobs");
    options.grammar            = o.Get("grammar").As<Napi::String>().Utf8Value();
    const Napi::Int32Array bias_tokens = o.Get("biasTokens").As<Napi::Int32Array>();
    const Napi::Float32Array bias = o.Get("bias").As<Napi::Float32Array>();
    for (size_t i = 0; i < bias_tokens.ElementLength(); ++i) {
        options.logit_bias.push_back({ bias_tokens[i], bias[i] });
    }
    options.prompt = copy_integers(o.Get("prompt"));
    const status result = engine->open_sequence(info[0].As<Napi::Number>().Int32Value(), options,
                                                copy_integers(o.Get("pages")), (int) number("filledCells"));
    if (!result.ok()) {
        throw_status(env, result);
    }
    return env.Undefined();
}

// (sequence, pages: Int32Array, filled cells)
Napi::Value EngineObject::JS_set_pages(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    if (is_stepping) {
        throw_status(info.Env(), status::failure("step_in_flight", "pages change only between two steps"));
    }
    const status result = engine->set_pages(info[0].As<Napi::Number>().Int32Value(), copy_integers(info[1]),
                                            info[2].As<Napi::Number>().Int32Value());
    if (!result.ok()) {
        throw_status(info.Env(), result);
    }
    return info.Env().Undefined();
}

Napi::Value EngineObject::JS_close_sequence(const Napi::CallbackInfo & info) {
    require_open(info.Env());
    if (is_stepping) {
        throw_status(info.Env(), status::failure("step_in_flight", "a sequence closes only between two steps"));
    }
    const status result = engine->close_sequence(info[0].As<Napi::Number>().Int32Value());
    if (!result.ok()) {
        throw_status(info.Env(), result);
    }
    return info.Env().Undefined();
}

// (tokens, positions, sequences, slots: Int32Array, outputs: Uint8Array), equally long
Napi::Value EngineObject::JS_step(const Napi::CallbackInfo & info) {
    Napi::Env env = info.Env();
    require_open(env);
    if (is_stepping) {
        throw_status(env, status::failure("step_in_flight", "one step runs at a time"));
    }
    nozzle::batch rows;
    rows.tokens    = copy_integers(info[0]);
    rows.positions = copy_integers(info[1]);
    rows.sequences = copy_integers(info[2]);
    rows.slots     = copy_integers(info[3]);
    const Napi::Uint8Array outputs = info[4].As<Napi::Uint8Array>();
    rows.outputs.assign(outputs.Data(), outputs.Data() + outputs.ElementLength());
    for (const int slot : rows.slots) {
        if (slot > 0 && loading_slots.count(slot)) {
            throw_status(env, status::failure("slot_in_use", "slot " + std::to_string(slot) + " is being loaded"));
        }
    }
    auto * worker = new StepWorker(env, this, std::move(rows));
    return worker->Start();
}

Napi::Value EngineObject::JS_close(const Napi::CallbackInfo & info) {
    // Running workers hold the engine until they are done; the last one frees it.
    engine.reset();
    return info.Env().Undefined();
}
