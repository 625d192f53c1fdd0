#!/usr/bin/env python3
"""Times training steps of a GPT-2 in PyTorch, float32, on the CPU.

    target/peers-venv/bin/python tools/peers/train_torch.py M --threads 2
    LD_PRELOAD=libtcmalloc_minimal.so.4 target/peers-venv/bin/python tools/peers/train_torch.py G --json

The model is nanoGPT's (fused qkv, scaled_dot_product_attention, tied head, no dropout), with GPT-2's tanh GELU. A step is
what a trainer does: take a batch, forward, backward, clip, AdamW, read the loss. Prints the median time of the steps
after the warm-up, tokens/s, GFLOP/s (6 × matmul parameters + 12·L·C·T per token, attention counted as not causal)
and the process's peak memory.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from configs import CONFIGS, Config


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        C = config.n_embd
        self.n_head = config.n_head
        self.ln_1 = nn.LayerNorm(C)
        self.c_attn = nn.Linear(C, 3 * C)
        self.attn_proj = nn.Linear(C, C)
        self.ln_2 = nn.LayerNorm(C)
        self.c_fc = nn.Linear(C, 4 * C)
        self.mlp_proj = nn.Linear(4 * C, C)

    def forward(self, x):  # (B, T, C)
        B, T, C = x.shape
        heads = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(C, dim=2))
        attention = F.scaled_dot_product_attention(*heads, is_causal=True)  # (B, NH, T, HS)
        x = x + self.attn_proj(attention.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab, config.n_embd)
        self.wpe = nn.Embedding(config.context, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        for name, p in self.named_parameters():
            if p.dim() >= 2:
                residual = name.endswith("_proj.weight")
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens, targets):  # (B, T) each
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def adamw(model: nn.Module, fused: bool) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=fused or None)


def batches(config: Config, data: Path | None):
    """Endless (inputs, targets): the windows of a file's bytes in order, or random tokens."""
    n = config.tokens_per_step
    if data:
        tokens = torch.frombuffer(bytearray(data.read_bytes()), dtype=torch.uint8).long()
        if len(tokens) <= n:
            raise SystemExit(f"{data}: {len(tokens)} bytes, one batch needs {n + 1}")
    else:
        tokens = torch.randint(config.vocab, (64 * n + 1,))
    while True:
        for start in range(0, len(tokens) - n, n):
            window = tokens[start : start + n + 1]
            yield window[:-1].view(config.batch, -1), window[1:].view(config.batch, -1)


def memory_mb(key: str) -> float | None:
    """VmRSS or VmHWM (its peak) of this process; unlike getrusage's, the peak is not inherited from the parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return None


def run(config: Config, args: argparse.Namespace) -> dict:
    after_import = memory_mb("VmRSS")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = GPT(config)
    optimizer = adamw(model, args.adamw == "fused")
    step_model = torch.compile(model) if args.compile else model
    source = batches(config, args.data)

    seconds, losses = [], []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        tokens, targets = next(source)
        optimizer.zero_grad(set_to_none=True)
        loss = step_model(tokens, targets)
        loss.backward()
        if args.clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)

    median = statistics.median(seconds[args.warmup :])
    tokens_per_second = config.tokens_per_step / median
    return {
        "config": args.config,
        "torch": torch.__version__,
        "threads": args.threads,
        "compile": args.compile,
        "adamw": args.adamw,
        "clip": args.clip,
        "parameters": sum(p.numel() for p in model.parameters()),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "step_ms": [1e3 * s for s in seconds],
        "median_step_ms": 1e3 * median,
        "tokens_per_second": tokens_per_second,
        "gflops": tokens_per_second * config.flops_per_token / 1e9,
        "rss_after_import_mb": after_import,
        "peak_rss_mb": memory_mb("VmHWM"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", choices=CONFIGS, help="the model's shape (configs.py)")
    parser.add_argument("--data", type=Path, help="train on this file's bytes (default: random tokens)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before those (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clip", type=float, default=1.0, help="gradient norm clip, 0 leaves it out (default 1)")
    parser.add_argument("--adamw", choices=["fused", "default"], default="fused", help="PyTorch's implementation")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object, with the time of every step")
    args = parser.parse_args()

    result = run(CONFIGS[args.config], args)
    if args.json:
        print(json.dumps(result))
    else:
        print(
            "{config}: {median_step_ms:.1f} ms a step, {tokens_per_second:,.0f} tokens/s, {gflops:.1f} GFLOP/s, "
            "loss {first_loss:.4f} -> {last_loss:.4f}, peak memory {peak_rss_mb:.0f} MB "
            "({rss_after_import_mb:.0f} MB after the imports)".format(**result)
        )


if __name__ == "__main__":
    main()
