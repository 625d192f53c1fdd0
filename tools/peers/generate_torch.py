#!/usr/bin/env python3
"""Times transformers' greedy generation with its KV cache: float32, batch 1, on the CPU.

    target/peers-venv/bin/python tools/peers/generate_torch.py                  # GPT-2 124M, random weights
    target/peers-venv/bin/python tools/peers/generate_torch.py HF_DIR --ids "464 2106 286" --print-ids

Prints the new tokens a second of the whole call to `generate` (the prompt's pass included) and without it (the time of a
call for one new token taken off). End-of-text does not stop it, so every run makes the same number of tokens.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GenerationConfig


def load(folder: str | None) -> GPT2LMHeadModel:
    if folder:
        model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    else:
        model = GPT2LMHeadModel(GPT2Config())
    model.generation_config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0)  # no eos_token_id
    return model.eval()


def timed(model: GPT2LMHeadModel, prompt: torch.Tensor, new_tokens: int) -> tuple[float, list[int]]:
    start = time.perf_counter()
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens)
    return time.perf_counter() - start, out[0, prompt.shape[1] :].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a Hugging Face folder (default: GPT-2 124M with random weights)")
    parser.add_argument("--prompt-tokens", type=int, default=16, help="length of a random prompt (default 16)")
    parser.add_argument("--ids", help="the prompt's token ids, separated by spaces, instead")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3, help="timed runs after a short warm-up (default 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", metavar="DIR", help="write the model as a Hugging Face folder, for another program")
    parser.add_argument("--print-ids", action="store_true", help="print the new token ids on a line of their own")
    parser.add_argument("--json", action="store_true", help="one JSON object, with ids and the time of every run")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = load(args.model)
    if args.save:
        model.save_pretrained(args.save)
    if args.ids:
        prompt = torch.tensor([[int(i) for i in args.ids.split()]])
    else:
        prompt = torch.randint(model.config.vocab_size, (1, args.prompt_tokens))
    if prompt.shape[1] + args.new_tokens > model.config.n_positions:
        raise SystemExit(f"{prompt.shape[1]} + {args.new_tokens} tokens exceed the context of {model.config.n_positions}")

    timed(model, prompt, 4)
    first = statistics.median(timed(model, prompt, 1)[0] for _ in range(args.runs))
    seconds, ids = [], []
    for _ in range(args.runs):
        elapsed, ids = timed(model, prompt, args.new_tokens)
        seconds.append(elapsed)
    whole = statistics.median(seconds)
    result = {
        "parameters": model.num_parameters(),
        "prompt_tokens": prompt.shape[1],
        "new_tokens": len(ids),
        "seconds": seconds,
        "first_token_ms": 1e3 * first,
        "tokens_per_second": len(ids) / whole,
        "decode_tokens_per_second": (len(ids) - 1) / (whole - first) if len(ids) > 1 else None,
        "prompt_ids": prompt[0].tolist(),
        "ids": ids,
    }
    if args.json:
        print(json.dumps(result))
        return
    print(
        "{parameters:,} parameters, {prompt_tokens} + {new_tokens} tokens: {tokens_per_second:.1f} tokens/s".format(**result)
    )
    print(f"first token {result['first_token_ms']:.0f} ms, then {result['decode_tokens_per_second'] or 0:.1f} tokens/s")
    if args.print_ids:
        print(*ids)


if __name__ == "__main__":
    main()
