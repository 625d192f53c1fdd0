#!/usr/bin/env python3
"""Writes texts that trip tokenizers, one {"name": ..., "text": ...} a line.

    hostile.py > hostile.jsonl

ASCII JSON: everything above U+007E is escaped, so the file survives editors. Every text is valid Unicode (no surrogates).
tiktoken_ids.py adds the ids that tiktoken gives them.
"""

import json
import random
import sys


def random_text(seed: int, length: int) -> str:
    """Characters from all planes, surrogates left out, in no order."""
    rng = random.Random(seed)
    ranges = [(0x00, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(length))


def random_spaces(seed: int, length: int) -> str:
    """Every kind of white space between letters, digits and signs: where GPT-2's pattern looks ahead."""
    rng = random.Random(seed)
    spaces = " \t\n\r\v\f\x1c\x1f\x85\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
    return "".join(rng.choice([rng.choice(spaces), " ", " ", "a", "é", "7", "½", "-", "'s", "'"]) for _ in range(length))


TEXTS = {
    "empty": "",
    "one space": " ",
    "one newline": "\n",
    "one NUL": "\0",
    "NULs between words": "a\0b\0\0 c \0\0\0",
    "all ASCII": "".join(map(chr, range(128))),
    "all of Latin-1": "".join(map(chr, range(256))),
    "BOM at the start": "\ufeffHello\ufeff world",
    "replacement characters": "\ufffd\ufffd a\ufffd",
    "noncharacters": "\ufffe\uffff\U0001fffe\U0010ffff",
    "CRLF": "one\r\ntwo\r\n\r\nthree\r\rfour\n\r",
    "newlines and indents": "a\n\n\n  b\n    c\n\t\td \n \n  \n",
    "trailing spaces": "word   ",
    "leading spaces": "   word",
    "spaces before a contraction": "it 's   't  'll 've",
    "tabs and spaces": "a \t b\t \tc  \t  d",
    "long run of spaces": "x" + " " * 10_000 + "y",
    "long run of spaces at the end": "x" + " " * 10_000,
    "long run of newlines": "x" + "\n" * 5_000 + "y",
    "long run of one letter": "a" * 5_000,
    "long run of one sign": "=" * 3_000,
    "long number": "1234567890" * 300,
    "Unicode spaces": "a\u00a0b\u2003c\u3000 d\u2028e\u2029f\u200bg\u202fh\u1680i\u0085j",
    "information separators": "a\x1cb\x1dc\x1ed\x1fe \x1c f",
    "contractions": "I'm you're he's we'll they've she'd don't can't o'clock 'tis rock'n'roll",
    "contractions in capitals": "I'M YOU'RE HE'S WE'LL THEY'VE SHE'D DON'T",
    "typographic apostrophes": "I\u2019m you\u2019re \u2018quoted\u2019 it\u02bcs",
    "apostrophes alone": "' '' ''' 's's's 'sx 'llama 'vexed",
    "digits of many scripts": "123 \u0661\u0662\u0663 \u0967\u0968\u0969 \u00b2\u00b3 \u2160\u2161 \u00bd \u3007 \U0001d7d8",
    "letters and digits mixed": "a1b2 3c4d v1.2.3-rc4 0x1F 1e-5 1,234.56",
    "end of text inside": "before<|endoftext|>after <|endoftext|><|endoftext|> <|endoftext",
    "lone combining marks": "\u0301 \u0301\u0302\u0303 a\u0301 \u0489\u20dd",
    "composed and decomposed": "\u00e9 e\u0301 \u1e69 s\u0323\u0307 s\u0307\u0323 \uac00 \u1100\u1161",
    "Zalgo": "Z" + "\u0335\u0321\u034e" * 40 + "a" + "\u0300\u0301" * 60,
    "emoji": "\U0001f600\U0001f680 \u2764\ufe0f \u263a \U0001f44d\U0001f3fd",
    "ZWJ emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308",
    "flags": "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ea",
    "tag characters": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c \u200fx\u200e",
    "Devanagari": "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "Thai": "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "CJK": "\u4f60\u597d\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f\u3000\uc138\uacc4",
    "CJK beyond the first plane": "\U00020000\U0002a6d6\U0002f800\U00030000",
    "mathematical letters": "\U0001d400\U0001d468\U0001d7ce \u2211\u222b\u221e \u2102",
    "Gothic and cuneiform": "\U00010330\U00010331 \U00012000\U00012001",
    "private use": "\ue000\uf8ff\U000f0000\U00100000",
    "ligatures and wide forms": "\ufb01\ufb02 \uff21\uff22\uff11\uff12 \u212b \u00c5",
    "case that changes length": "\u00df \u1e9e \u0130 \u0131 \u01c5 \u03a3\u03c3\u03c2",
    "zero-width and soft hyphens": "a\u200bb\u200cc\u200dd\u2060e\u00adf\ufeff",
    "control characters": "".join(map(chr, [*range(1, 32), *range(127, 160)])),
    "WikiText marks": " = Title = \n\n = = Section = = \n 10 @,@ 000 @.@ 5 @-@ year <unk> \n",
    "code": "fn main() {\n    println!(\"{}\", 1 << 4);\n}\n// ----\n",
    "link": "http://example.org/a_b?c=d&e=%20#f",
    "random, all planes": random_text(1, 4_000),
    "random, spaces": random_spaces(2, 4_000),
}


def main() -> None:
    for name, text in TEXTS.items():
        sys.stdout.write(json.dumps({"name": name, "text": text}) + "\n")


if __name__ == "__main__":
    main()
