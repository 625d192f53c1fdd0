#!/usr/bin/env python3
"""Loads a classifier that wikigpt exported in transformers, and compares what it says of texts with what wikigpt says.

    classify_transformers.py HF_DIR LOGITS.json TEXTS.txt LABELLED.jsonl [--save DIR]

LOGITS.json is {"tokens": [...], "logits": [[...], ...]}: row t holds our logits for the text of the tokens up to t.
LABELLED.jsonl is what `wikigpt classify --json` printed for TEXTS.txt, a text a line. transformers must find every parameter
and no other, compute the same logits, and give each text the same label and probabilities: alone, and all in one batch where
the model says what pads them. --save writes the model and its tokenizer as transformers saves them, for `wikigpt import`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar


def largest(what: str, theirs: np.ndarray, ours: np.ndarray, tolerance: float) -> None:
    if theirs.shape != ours.shape:
        sys.exit(f"{what} of transformers are {theirs.shape}, ours {ours.shape}")
    error = np.abs(theirs - ours).max()
    if not error <= tolerance:
        sys.exit(f"{what} differ by {error:.3g}, more than {tolerance:g}")
    print(f"{what} {theirs.shape[0]} x {theirs.shape[1]}: largest difference {error:.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="HF_DIR")
    parser.add_argument("logits", type=Path, metavar="LOGITS.json")
    parser.add_argument("texts", type=Path, metavar="TEXTS.txt")
    parser.add_argument("labelled", type=Path, metavar="LABELLED.jsonl")
    parser.add_argument("--save", type=Path, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="absolute (default %(default)s)")
    args = parser.parse_args()

    disable_progress_bar()
    model, info = AutoModelForSequenceClassification.from_pretrained(
        args.folder, dtype=torch.float32, output_loading_info=True
    )
    problems = {kind: list(names) for kind, names in info.items() if names}
    if problems:
        sys.exit(f"{args.folder}: transformers' loader reports {problems}")
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)

    ours = json.loads(args.logits.read_text())
    pad = model.config.pad_token_id
    # transformers would take it for padding at the end of a text.
    ends = [t for t, token in enumerate(ours["tokens"]) if token != pad]
    with torch.no_grad():
        theirs = [model(torch.tensor([ours["tokens"][: t + 1]])).logits[0].numpy() for t in ends]
    largest("logits", np.stack(theirs), np.array(ours["logits"], dtype=np.float32)[ends], args.tolerance)

    texts = args.texts.read_text(encoding="utf-8").splitlines()
    labelled = [json.loads(line) for line in args.labelled.read_text(encoding="utf-8").splitlines()]
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    ours = np.array([[line["probabilities"][name] for name in names] for line in labelled])
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    with torch.no_grad():
        theirs = np.concatenate([model(torch.tensor([row])).logits.softmax(-1).numpy() for row in ids])
    largest("probabilities", theirs, ours, args.tolerance)
    if [names[i] for i in theirs.argmax(-1)] != [line["label"] for line in labelled]:
        sys.exit("the labels are others")
    if pad is not None:
        longest = max(map(len, ids))
        rows = torch.tensor([row + [pad] * (longest - len(row)) for row in ids])
        with torch.no_grad():
            largest("probabilities in a batch", model(rows).logits.softmax(-1).numpy(), ours, args.tolerance)
    if args.save:
        model.save_pretrained(args.save)
        tokenizer.save_pretrained(args.save)
        print(f"transformers saved it in {args.save}")


if __name__ == "__main__":
    main()
