#!/usr/bin/env python3
"""Reads a run's event files with TensorBoard's own reader and compares them with the run's metrics.jsonl.

    tensorboard_events.py RUN

Every loss, gradient norm, learning rate and speed in metrics.jsonl must be a scalar of the same step and the
same value (as a float32, which is what events hold), and there may be no other scalar. A run that was resumed has one
event file for each start; where two hold the same step, the later file counts.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

# The tag of each number, by the kind of its line.
TAGS = {
    "train": {
        "train/loss": "loss",
        "lr": "lr",
        "grad_norm": "grad_norm",
        "tokens_per_second": "tokens_per_second",
        "mfu": "mfu",
    },
    "valid": {"val/loss": "loss"},
}
Scalars = dict[tuple[str, int], np.float32]


def expected(metrics: Path) -> Scalars:
    found = {}
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        for tag, key in TAGS[row["kind"]].items():
            if row.get(key) is not None:
                found[tag, row["step"]] = np.float32(row[key])
    return found


def read(run: Path) -> Scalars:
    files = sorted(run.glob("events.out.tfevents.*"))  # their names begin with the time
    if not files:
        sys.exit(f"{run}: no events.out.tfevents.*")
    found = {}
    for path in files:
        accumulator = EventAccumulator(str(path), size_guidance={SCALARS: 0})  # 0: keep every event
        accumulator.Reload()
        if accumulator.file_version != 2:
            sys.exit(f"{path}: event file version {accumulator.file_version}, expected 2")
        for tag in accumulator.Tags()[SCALARS]:
            for event in accumulator.Scalars(tag):
                found[tag, event.step] = np.float32(event.value)
    return found


def differences(ours: Scalars, theirs: Scalars) -> list[str]:
    def shown(scalars: Scalars, key: tuple[str, int]) -> str:
        return f"{scalars[key]:.9g}" if key in scalars else "nothing"

    def equal(key: tuple[str, int]) -> bool:
        return key in ours and key in theirs and np.array_equal(ours[key], theirs[key], equal_nan=True)

    keys = sorted(key for key in ours.keys() | theirs.keys() if not equal(key))
    return [f"{tag} at step {step}: metrics.jsonl has {shown(ours, (tag, step))}, the events {shown(theirs, (tag, step))}"
            for tag, step in keys]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()

    ours, theirs = expected(args.run / "metrics.jsonl"), read(args.run)
    if not ours:
        sys.exit(f"{args.run}/metrics.jsonl: no metrics to compare")
    if different := differences(ours, theirs):
        sys.exit("\n".join([*different[:20], f"{len(different)} of {len(ours.keys() | theirs.keys())} scalars differ"]))
    tags = sorted({tag for tag, _ in ours})
    print(f"TensorBoard reads the {len(ours)} scalars of {args.run}/metrics.jsonl: {', '.join(tags)}")


if __name__ == "__main__":
    main()
