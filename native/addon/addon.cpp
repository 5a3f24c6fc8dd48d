// Module init and per-environment state only.
#include "engine-object.h"
#include "workers.h"

// initialize(EngineError): hands over the JS error class.
static Napi::Value JS_initialize(const Napi::CallbackInfo & info) {
    info.Env().GetInstanceData<AddonData>()->error_class = Napi::Persistent(info[0].As<Napi::Function>());
    return info.Env().Undefined();
}

// openEngine(options with every field set) -> Promise of a handle
static Napi::Value JS_open_engine(const Napi::CallbackInfo & info) {
    const Napi::Object o = info[0].As<Napi::Object>();
    const auto text   = [&](const char * key) { return o.Get(key).As<Napi::String>().Utf8Value(); };
    const auto number = [&](const char * key) { return o.Get(key).As<Napi::Number>().Int32Value(); };
    nozzle::engine_options options;
    options.model_path  = text("modelPath");
    options.library_dir = text("libraryDir");
    options.cuda_library = text("cudaLibrary");
    options.device      = text("device");
    options.graph       = text("graph");
    options.n_slots     = number("slotCount");
    options.rank_max    = number("rankMax");
    options.n_sequences = number("sequenceCount");
    options.n_ctx       = number("contextLength");
    options.n_cells     = o.Get("kvCells").As<Napi::Number>().Int64Value();
    options.n_rows_max  = number("rowsMax");
    options.n_threads   = number("threads");
    auto * worker = new OpenWorker(info.Env(), std::move(options));
    return worker->Start();
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
    auto * data = new AddonData();
    data->engine_class = Napi::Persistent(EngineObject::Define(env));
    env.SetInstanceData(data);
    exports.Set("initialize", Napi::Function::New(env, JS_initialize));
    exports.Set("openEngine", Napi::Function::New(env, JS_open_engine));
    return exports;
}

NODE_API_MODULE(nozzle, Init)
