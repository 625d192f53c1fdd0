#!/usr/bin/env python3
"""Encodes files with GPT-2's tokenizer as others implement it, to compare wikigpt's token ids with.

    tiktoken_ids.py --ranks r50k_base.tiktoken wiki.test.tokens --out ids        # ids/wiki.test.tokens.u16
    tiktoken_ids.py --ranks r50k_base.tiktoken hostile.jsonl --out ids           # ids/hostile.jsonl.ids.jsonl
    tiktoken_ids.py --ranks r50k_base.tiktoken --write-hf DIR; tiktoken_ids.py --hf DIR wiki.test.tokens --out ids

Each file's whole text becomes one array of little-endian ids. A `.jsonl` file holds one {"text": ...} a line (hostile.py
writes such a file); each gets its `ids` beside it. `<|endoftext|>` in a text is ordinary text. Prints tokens and SHA-256
of each array.

--ranks takes OpenAI's published rank file (a base64 token and its rank a line; crates and packages that carry GPT-2's
vocabulary hold it as r50k_base.tiktoken), because tiktoken itself would download it. --hf takes a folder with vocab.json
and merges.txt and uses transformers' GPT2TokenizerFast instead; --write-hf makes such a folder from the ranks.
"""

import argparse
import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

END_OF_TEXT = "<|endoftext|>"
Encode = Callable[[str], list[int]]


def read_ranks(path: Path) -> dict[bytes, int]:
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def tiktoken_encoder(ranks: dict[bytes, int]) -> Encode:
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    special = {END_OF_TEXT: len(ranks)}
    encoding = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special)
    return encoding.encode_ordinary


def transformers_encoder(folder: Path) -> Encode:
    from transformers import GPT2TokenizerFast

    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    tokenizer = GPT2TokenizerFast(**files)
    # No special tokens in the core tokenizer: END_OF_TEXT inside a text is encoded as the characters it is made of.
    core = type(tokenizer.backend_tokenizer)(tokenizer.backend_tokenizer.model)
    core.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    return lambda text: core.encode(text, add_special_tokens=False).ids


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def merge_parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two parts whose merge made a token: what byte pair encoding with the lower ranks leaves of it."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:])]
        i = min(range(len(pairs)), key=pairs.__getitem__)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def write_hf(folder: Path, ranks: dict[bytes, int]) -> None:
    alphabet = byte_alphabet()
    spell = lambda token: "".join(alphabet[b] for b in token)
    ordered = sorted(ranks, key=ranks.__getitem__)
    merges = (" ".join(map(spell, merge_parts(token, ranks))) for token in ordered if len(token) > 1)
    vocab = {spell(token): ranks[token] for token in ordered} | {END_OF_TEXT: len(ranks)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def encode_file(path: Path, out: Path, encode: Encode, width: int) -> None:
    text = path.read_bytes().decode("utf-8")  # not read_text: it would turn CRLF into LF
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.split("\n") if line]
        for row in rows:
            row["ids"] = encode(row["text"])
        ids = np.array([i for row in rows for i in row["ids"]], dtype=f"<u{width // 8}")
        target = out / f"{path.name}.ids.jsonl"
        target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        ids = np.array(encode(text), dtype=f"<u{width // 8}")
        target = out / f"{path.name}.u{width}"
        ids.tofile(target)
    print(f"{target}: {len(ids)} tokens, sha256 {hashlib.sha256(ids.tobytes()).hexdigest()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ranks", type=Path, metavar="FILE", help="encode with tiktoken and these ranks")
    source.add_argument("--hf", type=Path, metavar="DIR", help="encode with transformers and DIR's vocab.json, merges.txt")
    parser.add_argument("--write-hf", type=Path, metavar="DIR", help="write vocab.json and merges.txt made from --ranks")
    parser.add_argument("--width", type=int, choices=[16, 32], default=16, help="bits of an id (default 16)")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the ids (default: this one)")
    parser.add_argument("files", type=Path, nargs="*")
    args = parser.parse_args()
    if args.write_hf and not args.ranks:
        parser.error("--write-hf needs --ranks")

    ranks = read_ranks(args.ranks) if args.ranks else {}
    if args.write_hf:
        write_hf(args.write_hf, ranks)
    encode = tiktoken_encoder(ranks) if ranks else transformers_encoder(args.hf)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.files:
        encode_file(path, args.out, encode, args.width)


if __name__ == "__main__":
    main()
