"""Trains one example adapter on a CPU and saves it as PEFT saves it, tensors in F16.

    python examples/training/train.py --base <model.gguf> --task ticket-triage --out examples/adapters/ticket-triage

The base is the very GGUF that is served, dequantised to float32 by transformers, so the adapter
learns on the weights it will meet.
"""

import argparse

from peft import LoraConfig, get_peft_model

from lora_training import accuracy, encode_case, load_base, save_f16, seed_everything, train
from tasks import TASKS

BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
END_OF_TURN = "<|im_end|>"


def as_chat(prompt):
    """The chat that a client would send: one user message."""
    return [{"role": "user", "content": prompt}]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="GGUF file of the base model")
    parser.add_argument("--task", required=True, choices=sorted(TASKS))
    parser.add_argument("--out", required=True, help="directory for the adapter")
    parser.add_argument("--cases", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--check", type=int, default=30, help="held-out cases to score, 0 = none")
    args = parser.parse_args()

    task = TASKS[args.task]
    rng = seed_everything()
    tokenizer, base = load_base(args.base)
    model = get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=task.rank,
            lora_alpha=task.alpha,
            target_modules=task.target_modules,
            use_rslora=task.use_rslora,
        ),
    )
    model.print_trainable_parameters()
    made = [task.generator.make_case(rng, "train") for _ in range(args.cases)]
    cases = [encode_case(tokenizer, as_chat(prompt), answer, END_OF_TURN) for prompt, answer in made]
    train(model, cases, args.epochs, rng)
    model.eval()
    save_f16(model, args.out, BASE_NAME)
    if args.check:
        held_out = [task.generator.make_case(rng, "held_out") for _ in range(args.check)]
        scored = accuracy(model, tokenizer, [(as_chat(prompt), answer) for prompt, answer in held_out])
        print(f"adapter accuracy {scored:.3f} on {args.check} held-out cases")


if __name__ == "__main__":
    main()
