#!/usr/bin/env python3
"""Loads adapters that wikigpt trained in Hugging Face's PEFT, and compares what they make of their model with what wikigpt says.

    adapters_peft.py ADAPTER_DIR LOGITS.json [--save DIR]

ADAPTER_DIR says where its model is. LOGITS.json is {"tokens": [...], "logits": [[...], ...]}: our logits, a row for each of the
tokens; of a classifier, row t holds those of the text of the tokens up to t. PEFT must find every adapter and no other, and
compute the same logits. --save writes the adapters as PEFT saves them, for `wikigpt export`.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="ADAPTER_DIR")
    parser.add_argument("logits", type=Path, metavar="LOGITS.json")
    parser.add_argument("--save", type=Path, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="absolute (default %(default)s)")
    args = parser.parse_args()

    disable_progress_bar()
    # What PEFT cannot find, or does not know, it says in a warning.
    warnings.simplefilter("error", UserWarning)
    settings = PeftConfig.from_pretrained(args.folder)
    base = settings.base_model_name_or_path
    if settings.task_type == "SEQ_CLS":
        names = json.loads((args.folder / "config.json").read_text())["id2label"]
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(names), dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, args.folder).eval()

    with safe_open(args.folder / "adapter_model.safetensors", "np") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}
    loaded = {name: tensor.numpy() for name, tensor in get_peft_model_state_dict(model).items()}
    if stored.keys() != loaded.keys():
        sys.exit(f"PEFT has {sorted(loaded.keys() - stored.keys())} besides, and not {sorted(stored.keys() - loaded.keys())}")
    for name, tensor in stored.items():
        if not np.array_equal(tensor, loaded[name]):
            sys.exit(f"{name} is not in PEFT what it is in the file")

    ours = json.loads(args.logits.read_text())
    tokens, expected = ours["tokens"], np.array(ours["logits"], dtype=np.float32)
    with torch.no_grad():
        if settings.task_type == "SEQ_CLS":
            model.config.pad_token_id = model.base_model.model.config.pad_token_id = None
            rows = [model(torch.tensor([tokens[: t + 1]])).logits[0].numpy() for t in range(len(tokens))]
            theirs = np.stack(rows)
            with model.disable_adapter():
                without = model(torch.tensor([tokens])).logits[0].numpy()
        else:
            theirs = model(torch.tensor([tokens])).logits[0].numpy()
            with model.disable_adapter():
                without = model(torch.tensor([tokens])).logits[0, -1].numpy()
    if theirs.shape != expected.shape:
        sys.exit(f"logits of PEFT are {theirs.shape}, ours {expected.shape}")
    error = np.abs(theirs - expected).max()
    if not error <= args.tolerance:
        sys.exit(f"logits differ by {error:.3g}, more than {args.tolerance:g}")
    change = np.abs(theirs[-1] - without).max()
    if not change > 10 * args.tolerance:
        sys.exit(f"the adapters change the logits by {change:.3g} only: nothing is compared")
    print(f"{len(stored)} tensors, logits {theirs.shape[0]} x {theirs.shape[1]}: largest difference {error:.3g}")
    if args.save:
        model.save_pretrained(args.save)


if __name__ == "__main__":
    main()
