#!/usr/bin/env python3
"""Compares wikigpt with PyTorch on this machine's CPU, in turn, in one run: training S, M, G and generation on G.

    cargo build --release && tools/peers/setup.sh
    tools/peers/compare_cpu.py                        # all of it, three rounds: about half an hour on two cores
    tools/peers/compare_cpu.py M G --rounds 5 --variants tuned --raw runs.json

Each round runs every contestant once (A B A B), each in a process of its own; a figure is the median over the rounds
of a run's median step, warm-up steps left out. Prints a Markdown table: tokens/s with their spread, how many times as
fast wikigpt is, GFLOP/s (formula in configs.py) as a share of the FMA peak measured here (fma_peak.c), peak memory
(the process's largest resident set). Run it on an idle machine: the share of the CPUs that others used is shown too.

PyTorch's variants: `eager` as it comes; `tuned` with tcmalloc preloaded and fused AdamW; `compiled` is tuned plus
torch.compile. Generation: greedy, batch 1, the same weights and prompt on both sides, time per token after the first.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from configs import CONFIGS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STEPS = {"S": (5, 40), "M": (3, 10), "G": (2, 6)}  # warm-up, timed
VARIANTS = {
    "eager": ["--adamw", "default"],
    "tuned": ["--adamw", "fused"],
    "compiled": ["--adamw", "fused", "--compile"],
}
# "The history of the city begins with the first settlers who came from the north", in GPT-2's tokens.
PROMPT_IDS = "464 2106 286 262 1748 6140 351 262 717 20597 508 1625 422 262 5093"
NEW_TOKENS = 128


@dataclass
class Run:
    tokens_per_second: float
    peak_mb: float
    others: float  # share of the machine's CPU time that went to other processes


@dataclass
class Process:
    stdout: str
    seconds: float
    peak_mb: float
    others: float


def busy_seconds() -> float:
    """CPU time that the whole machine has spent busy, or lost to its host, since it started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def launch(command: list, preload: str | None = None) -> Process:
    """Runs a command to its end; a failure ends the comparison with the last lines of its stderr."""
    env = os.environ | ({"LD_PRELOAD": preload} if preload else {})
    with tempfile.TemporaryFile("w+") as stderr:
        busy, start = busy_seconds(), time.perf_counter()
        child = subprocess.Popen([str(a) for a in command], stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
        stdout = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            stderr.seek(0)
            tail = "".join(stderr.readlines()[-15:])
            sys.exit(f"{' '.join(map(str, command))}\nended with status {child.returncode}:\n{tail}")
    others = (busy_seconds() - busy - usage.ru_utime - usage.ru_stime) / (seconds * os.cpu_count())
    return Process(stdout, seconds, usage.ru_maxrss / 1024, max(0.0, others))


class Torch:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.python = args.venv / "bin/python"
        if not self.python.exists():
            sys.exit(f"no {self.python}: run tools/peers/setup.sh first")
        self.tcmalloc = args.tcmalloc or find_tcmalloc()

    def run(self, variant: str, script: str, *arguments) -> Process:
        command = [self.python, HERE / script, *arguments, "--threads", self.args.threads, "--json"]
        return launch(command, None if variant == "eager" else self.tcmalloc)

    def train(self, variant: str, name: str) -> Run:
        warmup, steps = self.args.step_counts[name]
        flags = [*VARIANTS[variant], "--warmup", warmup, "--steps", steps]
        process = self.run(variant, "train_torch.py", name, *flags)
        return Run(json.loads(process.stdout)["tokens_per_second"], process.peak_mb, process.others)

    def generate(self, variant: str, model: Path | None) -> Run:
        arguments = [*([model] if model else []), "--ids", PROMPT_IDS, "--new-tokens", NEW_TOKENS, "--runs", 1]
        process = self.run(variant, "generate_torch.py", *arguments)
        return Run(json.loads(process.stdout)["decode_tokens_per_second"], process.peak_mb, process.others)


class Wikigpt:
    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args = args
        self.folder = folder
        text = args.text or sample_text(folder / "text.txt")
        for tokenizer in ("bytes", "gpt2"):
            launch([args.wikigpt, "prepare", "--text", text, "--tokenizer", tokenizer, "--out", folder / tokenizer])

    def train(self, name: str) -> Run:
        run = self.folder / "run"
        result = self.train_into(run, name, *self.args.step_counts[name])
        shutil.rmtree(run)
        return result

    def train_into(self, run: Path, name: str, warmup: int, timed: int) -> Run:
        config = CONFIGS[name]
        data = self.folder / ("bytes" if config.vocab == 256 else "gpt2")
        shape = ["--n-layer", config.n_layer, "--n-head", config.n_head, "--n-embd", config.n_embd]
        shape += ["--context", config.context, "--batch", config.batch]
        recipe = ["--steps", warmup + timed, "--lr", 3e-4, "--warmup", 0, "--schedule", "constant", "--grad-clip", 1]
        quiet = ["--eval-every", 0, "--sample-every", 0, "--checkpoint-every", 0, "--log-every", 1]
        device = ["--device", "cpu", "--precision", "f32", "--threads", self.args.threads]
        command = [self.args.wikigpt, "train", "--data", data, "--out", run]
        process = launch([*command, *shape, *recipe, *quiet, *device])
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        step_ms = [line["step_ms"] for line in lines if line["kind"] == "train"][warmup:]
        if len(step_ms) != timed:
            sys.exit(f"{run}/metrics.jsonl: {len(step_ms)} steps after the warm-up, expected {timed}")
        return Run(1e3 * config.tokens_per_step / statistics.median(step_ms), process.peak_mb, process.others)

    def generation_model(self) -> tuple[Path, Path]:
        """A GPT-2 124M of one training step: the run folder, and its export for transformers."""
        run, export = self.folder / "gen", self.folder / "gen-hf"
        self.train_into(run, "G", warmup=0, timed=1)
        launch([self.args.wikigpt, "export", run, "--out", export])
        return run, export

    def generate(self, model: Path) -> Run:
        prompt = ["--prompt-ids", PROMPT_IDS, "--max-new-tokens", NEW_TOKENS, "--no-stop", "--temperature", 0]
        process = launch([self.args.wikigpt, "generate", model, *prompt, "--threads", self.args.threads, "--json"])
        return Run(json.loads(process.stdout)["decode_tokens_per_second"], process.peak_mb, process.others)


def find_tcmalloc() -> str:
    for folder in ("/usr/lib", "/usr/local/lib"):
        for path in sorted(Path(folder).glob("**/libtcmalloc_minimal.so.4")):
            return str(path)
    sys.exit("no libtcmalloc_minimal.so.4: run tools/peers/setup.sh, or say --tcmalloc PATH")


def sample_text(path: Path) -> Path:
    """Half a megabyte of words in no order: what the text says does not change a step's time."""
    words = "the of and in to was is for on as with by at from his that it an were are which city river war".split()
    line = " ".join(words[(i * i) % len(words)] for i in range(200))
    path.write_text("".join(f"{line} {n}\n" for n in range(500)))
    return path


def fma_peak(folder: Path, threads: int) -> float:
    binary = folder / "fma_peak"
    compiler = os.environ.get("CC", "cc")
    launch([compiler, "-O3", "-march=native", "-pthread", HERE / "fma_peak.c", "-o", binary])
    return float(launch([binary, threads]).stdout)


def spread(values: list[float], digits: int = 0) -> str:
    low, mid, high = (f"{v:,.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    return mid if len(values) == 1 else f"{mid} ({low}-{high})"


def table(runs: dict, peak: float) -> str:
    rows = [
        "| | | tokens/s | wikigpt is × as fast | GFLOP/s | share of FMA peak | peak memory, MB | others' CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, contestant), results in runs.items():
        rates = [r.tokens_per_second for r in results]
        rate = statistics.median(rates)
        ours = runs.get((name, "wikigpt"))
        ratio = "-"
        if ours and ours is not results:
            ratio = f"{statistics.median(r.tokens_per_second for r in ours) / rate:.2f}"
        flops, share = "-", "-"
        if name in CONFIGS:
            gflops = rate * CONFIGS[name].flops_per_token / 1e9
            flops, share = f"{gflops:.1f}", f"{gflops / peak:.0%}"
        memory = f"{statistics.median(r.peak_mb for r in results):,.0f}"
        others = f"{max(r.others for r in results):.0%}"
        text = spread(rates, 1 if rate < 1000 else 0)
        rows.append(f"| {name} | {contestant} | {text} | {ratio} | {flops} | {share} | {memory} | {others} |")
    return "\n".join(rows)


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="of S M G generate (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument("--variants", default="eager,tuned", help="of eager,tuned,compiled (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="timed steps of every run (default: by config)")
    parser.add_argument("--text", type=Path, help="text that wikigpt trains on (default: a made-up one)")
    parser.add_argument("--wikigpt", default=ROOT / "target/release/wikigpt", help="the binary; 'none' leaves it out")
    parser.add_argument("--venv", type=Path, default=ROOT / "target/peers-venv")
    parser.add_argument("--tcmalloc", help="path of libtcmalloc_minimal.so.4 (default: searched)")
    parser.add_argument("--raw", type=Path, help="write every run to this JSON file")
    args = parser.parse_args()

    names = args.what or [*CONFIGS, "generate"]
    variants = args.variants.split(",")
    for unknown in {*names} - {*CONFIGS, "generate"} | {*variants} - {*VARIANTS}:
        parser.error(f"unknown: {unknown}")
    args.step_counts = {name: (warmup, args.steps or timed) for name, (warmup, timed) in STEPS.items()}
    with_wikigpt = str(args.wikigpt) != "none"
    if with_wikigpt and not Path(args.wikigpt).exists():
        parser.error(f"no {args.wikigpt}: cargo build --release, or --wikigpt none")

    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    (ROOT / "target").mkdir(exist_ok=True)  # not /tmp, which may be memory: a checkpoint of G is 1.5 GB
    with tempfile.TemporaryDirectory(prefix="compare-cpu-", dir=ROOT / "target") as temporary:
        folder = Path(temporary)
        torch = Torch(args)
        wikigpt = Wikigpt(args, folder) if with_wikigpt else None
        peak = fma_peak(folder, args.threads)
        model, export = wikigpt.generation_model() if wikigpt and "generate" in names else (None, None)

        def record(name: str, contestant: str, run: Run) -> None:
            runs[name, contestant].append(run)
            print(f"{name} {contestant}: {run.tokens_per_second:,.1f} tokens/s", file=sys.stderr)

        for name in names:
            for _ in range(args.rounds):
                for variant in variants:
                    if name != "generate":
                        record(name, f"PyTorch {variant}", torch.train(variant, name))
                    elif variant != "compiled":
                        record(name, f"transformers {variant}", torch.generate(variant, export))
                if wikigpt and name != "generate":
                    record(name, "wikigpt", wikigpt.train(name))
                elif wikigpt:
                    record(name, "wikigpt", wikigpt.generate(model))
        peak = max(peak, fma_peak(folder, args.threads))

    print(f"{date.today()}, {cpu_name()}, {args.threads} threads of {os.cpu_count()} CPUs, float32;")
    print(f"f32 FMA peak {peak:.1f} GFLOP/s; median (lowest-highest) of {args.rounds} runs each.\n")
    print(table(runs, peak))
    if args.raw:
        rows = [{"what": n, "contestant": c, **asdict(r)} for (n, c), results in runs.items() for r in results]
        args.raw.write_text(json.dumps({"cpu": cpu_name(), "fma_peak_gflops": peak, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
