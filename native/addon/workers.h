// Work that leaves the JS thread. Plain structs cross over; no JS value is touched in Execute.
#pragma once

#include <napi.h>

#include "engine-object.h"

// Settles a promise with Deliver()'s value, or rejects it with an EngineError.
class EngineWorker : public Napi::AsyncWorker {
  public:
    explicit EngineWorker(Napi::Env env);
    Napi::Promise Start();

  protected:
    virtual nozzle::status Work() = 0;              // off the JS thread
    virtual Napi::Value    Deliver(Napi::Env env) = 0; // on it, after success
    virtual void           Release() {}             // on it, after success or failure

    void Execute() override;
    void OnOK() override;
    void OnError(const Napi::Error & error) override;

  private:
    Napi::Promise::Deferred deferred;
    nozzle::status          result;
};

class OpenWorker : public EngineWorker {
  public:
    OpenWorker(Napi::Env env, nozzle::engine_options options);

  protected:
    nozzle::status Work() override;
    Napi::Value    Deliver(Napi::Env env) override;

  private:
    nozzle::engine_options          options;
    std::shared_ptr<nozzle::engine> engine;
};

class LoadSlotWorker : public EngineWorker {
  public:
    LoadSlotWorker(Napi::Env env, EngineObject * owner, int slot, std::vector<nozzle::lora_module> modules,
                   Napi::Uint8Array payload);

  protected:
    nozzle::status Work() override;
    Napi::Value    Deliver(Napi::Env env) override;
    void           Release() override;

  private:
    EngineObject * owner; // kept alive by owner_ref
    Napi::ObjectReference           owner_ref, payload_ref;
    std::shared_ptr<nozzle::engine> engine;
    int                             slot;
    std::vector<nozzle::lora_module> modules;
    const uint8_t                 * payload;
    size_t                          payload_size;
    double                          copy_us = 0;
};

class PinWorker : public EngineWorker {
  public:
    PinWorker(Napi::Env env, std::shared_ptr<nozzle::engine> engine, Napi::Uint8Array payload);

  protected:
    nozzle::status Work() override;
    Napi::Value    Deliver(Napi::Env env) override;

  private:
    Napi::ObjectReference           payload_ref;
    std::shared_ptr<nozzle::engine> engine;
    const uint8_t                 * payload;
    size_t                          payload_size;
    bool                            is_pinned = false;
};

class StepWorker : public EngineWorker {
  public:
    StepWorker(Napi::Env env, EngineObject * owner, nozzle::batch rows);

  protected:
    nozzle::status Work() override;
    Napi::Value    Deliver(Napi::Env env) override;
    void           Release() override;

  private:
    EngineObject * owner; // kept alive by owner_ref
    Napi::ObjectReference           owner_ref;
    std::shared_ptr<nozzle::engine> engine;
    nozzle::batch                   rows;
    std::vector<nozzle::sampled_token> sampled;
    double                          step_us = 0;
};
