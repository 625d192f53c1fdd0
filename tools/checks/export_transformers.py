#!/usr/bin/env python3
"""Loads a Hugging Face folder that wikigpt exported in transformers, and compares what it computes with our figures.

    export_transformers.py HF_DIR LOGITS.json [--tokens FILE.bin --text CORPUS] [--save DIR]

LOGITS.json is {"tokens": [...], "logits": [[...], ...]}: our logits, a row for each of the tokens. transformers must find
every parameter and no other, and compute the same logits within --tolerance.

Where the folder has a tokenizer.json, --tokens (a token file that `wikigpt prepare` wrote, one document) and --text (the
text that it was prepared from) check that AutoTokenizer encodes and decodes as we do. --save writes the model, and the
tokenizer if there is one, as transformers saves it, for `wikigpt import`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

MAGIC = 20240520  # llm.c's token shard: 256 int32 of header, then u16 tokens
HEADER_BYTES = 1024


def load(folder: Path) -> PreTrainedModel:
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    problems = {kind: list(names) for kind, names in info.items() if names}
    if problems:
        sys.exit(f"{folder}: transformers' loader reports {problems}")
    return model.eval()


def compare_logits(model: PreTrainedModel, ours: dict, tolerance: float) -> None:
    tokens, expected = torch.tensor([ours["tokens"]]), np.array(ours["logits"], dtype=np.float32)
    with torch.no_grad():
        logits = model(tokens).logits[0].numpy()
    if logits.shape != expected.shape:
        sys.exit(f"logits of transformers are {logits.shape}, ours {expected.shape}")
    error = np.abs(logits - expected)
    t, v = np.unravel_index(np.argmax(error), error.shape)  # argmax finds NaN first
    worst = f"token {t}, entry {v}: transformers {logits[t, v]:.6f}, ours {expected[t, v]:.6f}"
    if not error[t, v] <= tolerance:
        sys.exit(f"logits differ by {error[t, v]:.3g}, more than {tolerance:g}, at {worst}")
    print(f"logits of {len(error)} tokens x {len(error[0])}: largest difference {error[t, v]:.3g} at {worst}")


def read_tokens(path: Path) -> list[int]:
    data = path.read_bytes()
    header = np.frombuffer(data[:HEADER_BYTES], dtype="<i4")
    if len(header) != 256 or header[0] != MAGIC:
        sys.exit(f"{path}: not a token file of 16-bit tokens")
    return np.frombuffer(data[HEADER_BYTES:], dtype="<u2").tolist()


def compare_tokenizer(tokenizer, tokens: list[int], corpus: str) -> None:
    start = tokens[0] == tokenizer.eos_token_id  # what `prepare` puts before a document
    text = tokenizer.decode(tokens[start:], clean_up_tokenization_spaces=False)
    if not corpus.endswith(text):
        sys.exit(f"the tokens decode to a text that does not end the corpus; its end is {text[-60:]!r}")
    ids = tokenizer.encode(text, add_special_tokens=False)
    for i, (theirs, ours) in enumerate(zip(ids, tokens[start:])):
        if theirs != ours:
            sys.exit(f"token {i} is {theirs} in transformers and {ours} in our file, near {tokenizer.decode(ids[i:i+5])!r}")
    if len(ids) != len(tokens[start:]):
        sys.exit(f"transformers encodes the text to {len(ids)} tokens, our file has {len(tokens[start:])}")
    print(f"tokenizer: {len(ids)} tokens equal, and decoded to the corpus's last {len(text)} characters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="HF_DIR")
    parser.add_argument("logits", type=Path, metavar="LOGITS.json")
    parser.add_argument("--tokens", type=Path, metavar="FILE.bin")
    parser.add_argument("--text", type=Path, metavar="CORPUS")
    parser.add_argument("--save", type=Path, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="absolute (default %(default)s)")
    args = parser.parse_args()
    if (args.tokens is None) != (args.text is None):
        parser.error("--tokens and --text go together")

    disable_progress_bar()
    model = load(args.folder)
    compare_logits(model, json.loads(args.logits.read_text()), args.tolerance)
    tokenizer = None
    if (args.folder / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(args.folder)
        if len(tokenizer) > model.config.vocab_size:
            extra = tokenizer.convert_ids_to_tokens(range(model.config.vocab_size, len(tokenizer)))
            sys.exit(f"{args.folder}: transformers adds {extra} to a vocabulary of {model.config.vocab_size}")
        if args.tokens:
            compare_tokenizer(tokenizer, read_tokens(args.tokens), args.text.read_bytes().decode("utf-8"))
    elif args.tokens:
        sys.exit(f"{args.folder}: no tokenizer.json")
    if args.save:
        model.save_pretrained(args.save)
        if tokenizer:
            tokenizer.save_pretrained(args.save)
        print(f"transformers saved it in {args.save}")


if __name__ == "__main__":
    main()
