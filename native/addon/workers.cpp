#include "workers.h"

#include <chrono>
#include <cmath>

static double now_us() {
    using namespace std::chrono;
    return (double) duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count() / 1e3;
}

EngineWorker::EngineWorker(Napi::Env env) : Napi::AsyncWorker(env), deferred(env) {}

Napi::Promise EngineWorker::Start() {
    Queue();
    return deferred.Promise();
}

void EngineWorker::Execute() {
    try {
        result = Work();
    } catch (const std::bad_alloc &) {
        result = nozzle::status::failure(nozzle::ERR_OUT_OF_MEMORY, "the host's memory is used up");
    }
}

void EngineWorker::OnOK() {
    Napi::HandleScope scope(Env());
    Release();
    if (result.ok()) {
        deferred.Resolve(Deliver(Env()));
    } else {
        deferred.Reject(make_engine_error(Env(), result));
    }
}

void EngineWorker::OnError(const Napi::Error & error) {
    Release();
    deferred.Reject(error.Value());
}

OpenWorker::OpenWorker(Napi::Env env, nozzle::engine_options o) : EngineWorker(env), options(std::move(o)) {}

nozzle::status OpenWorker::Work() {
    std::unique_ptr<nozzle::engine> made;
    const nozzle::status result = nozzle::engine::open(options, made);
    engine = std::move(made);
    return result;
}

Napi::Value OpenWorker::Deliver(Napi::Env env) {
    return env.GetInstanceData<AddonData>()->engine_class.New(
        { Napi::External<std::shared_ptr<nozzle::engine>>::New(env, &engine) });
}

LoadSlotWorker::LoadSlotWorker(Napi::Env env, EngineObject * o, int s, std::vector<nozzle::lora_module> m,
                               Napi::Uint8Array bytes)
    : EngineWorker(env), owner(o), owner_ref(Napi::Persistent(o->Value())), payload_ref(Napi::Persistent(bytes.As<Napi::Object>())),
      engine(o->engine), slot(s), modules(std::move(m)), payload(bytes.Data()), payload_size(bytes.ByteLength()) {
    owner->loading_slots.insert(slot);
}

nozzle::status LoadSlotWorker::Work() {
    const double begin = now_us();
    const nozzle::status result = engine->load_slot(slot, modules, payload, payload_size);
    copy_us = now_us() - begin;
    return result;
}

Napi::Value LoadSlotWorker::Deliver(Napi::Env env) { return Napi::Number::New(env, copy_us); }

void LoadSlotWorker::Release() { owner->loading_slots.erase(slot); }

PinWorker::PinWorker(Napi::Env env, std::shared_ptr<nozzle::engine> e, Napi::Uint8Array bytes)
    : EngineWorker(env), payload_ref(Napi::Persistent(bytes.As<Napi::Object>())), engine(std::move(e)),
      payload(bytes.Data()), payload_size(bytes.ByteLength()) {}

nozzle::status PinWorker::Work() {
    is_pinned = engine->pin(payload, payload_size);
    return nozzle::status::success();
}

Napi::Value PinWorker::Deliver(Napi::Env env) { return Napi::Boolean::New(env, is_pinned); }

StepWorker::StepWorker(Napi::Env env, EngineObject * o, nozzle::batch b)
    : EngineWorker(env), owner(o), owner_ref(Napi::Persistent(o->Value())), engine(o->engine), rows(std::move(b)) {
    owner->is_stepping = true;
    owner->step_slots  = std::set<int>(rows.slots.begin(), rows.slots.end());
}

nozzle::status StepWorker::Work() {
    const double begin = now_us();
    const nozzle::status result = engine->step(rows, sampled);
    step_us = now_us() - begin;
    return result;
}

Napi::Value StepWorker::Deliver(Napi::Env env) {
    Napi::Array list = Napi::Array::New(env, sampled.size());
    for (size_t i = 0; i < sampled.size(); ++i) {
        const nozzle::sampled_token & s = sampled[i];
        Napi::Object one = Napi::Object::New(env);
        one.Set("sequence", s.sequence);
        one.Set("token", s.token);
        one.Set("isNonFinite", s.is_non_finite);
        one.Set("isStuck", s.is_stuck);
        one.Set("logprob", s.has_logprob ? Napi::Number::New(env, s.logprob).As<Napi::Value>() : env.Null());
        Napi::Array top = Napi::Array::New(env, s.top.size());
        for (size_t k = 0; k < s.top.size(); ++k) {
            Napi::Object entry = Napi::Object::New(env);
            entry.Set("token", s.top[k].token);
            entry.Set("logprob", s.top[k].logprob);
            top.Set((uint32_t) k, entry);
        }
        one.Set("top", top);
        list.Set((uint32_t) i, one);
    }
    Napi::Object out = Napi::Object::New(env);
    out.Set("sampled", list);
    out.Set("engineUs", std::round(step_us));
    return out;
}

void StepWorker::Release() {
    owner->is_stepping = false;
    owner->step_slots.clear();
}
