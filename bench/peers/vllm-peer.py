"""The peer vLLM on the CPU, spoken to as protocol.ts states. Its offline engine is used, in this
very process, which spares it HTTP, a second process and detokenizing."""

import json
import os
import sys
import time

import torch
import vllm
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

# What vLLM takes as max_lora_rank.
RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512]
CONTEXT_TOKENS = 512
STATED = ["VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_ENABLE_V1_MULTIPROCESSING"]


class Peer:
    def __init__(self, setup):
        count = len(setup["prompts"])
        # Prefix caching off: every request does all of its work.
        settings = {
            "dtype": "bfloat16",
            "max_loras": count,
            "max_lora_rank": next(rank for rank in RANKS if rank >= setup["rank"]),
            "max_num_seqs": count,
            "max_model_len": CONTEXT_TOKENS,
            "enable_prefix_caching": False,
            "enforce_eager": os.environ.get("NOZZLE_VLLM_COMPILE") != "1",
        }
        self.llm = LLM(
            model=setup["modelPath"], skip_tokenizer_init=True, enable_lora=True, **settings
        )
        self.prompts = [{"prompt_token_ids": [token]} for token in setup["prompts"]]
        self.adapters = [
            LoRARequest(f"adapter-{index}", index + 1, path)
            for index, path in enumerate(setup["adapterPaths"])
        ]
        self.tokens = setup["completionTokens"]
        self.sampling = SamplingParams(
            temperature=0, max_tokens=self.tokens, ignore_eos=True, detokenize=False
        )
        preloaded = [os.path.basename(path) for path in os.environ["LD_PRELOAD"].split(":") if path]
        environment = {name: os.environ[name] for name in STATED}
        versions = {"vllm": vllm.__version__, "torch": torch.__version__}
        self.settings = {**versions, **settings, **environment, "preloaded": preloaded}

    def run(self, workload):
        adapters = {
            "distinct": self.adapters,
            "same": [self.adapters[0]] * len(self.prompts),
            "base": None,
        }[workload]
        started = time.perf_counter()
        outputs = self.llm.generate(
            self.prompts, self.sampling, lora_request=adapters, use_tqdm=False
        )
        seconds = time.perf_counter() - started
        completions = [list(output.outputs[0].token_ids) for output in outputs]
        made = sum(map(len, completions))
        if made != self.tokens * len(self.prompts):
            raise RuntimeError(f"vLLM made {made} tokens")
        return {"tokensPerSecond": made / seconds, "completions": completions}


def main():
    peer = None
    with os.fdopen(3, "w", buffering=1) as answers:
        for line in sys.stdin:
            message = json.loads(line)
            try:
                if peer is None:
                    peer = Peer(message)
                    answer = {"ready": peer.settings}
                else:
                    answer = {"run": peer.run(message["workload"])}
            except Exception as error:  # The benchmark shows it.
                answer = {"failed": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
