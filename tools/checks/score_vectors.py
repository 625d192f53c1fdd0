#!/usr/bin/env python3
"""Writes what sacrebleu, rouge_score and SQuAD's script say of sentences that trip them: crates/score/tests/vectors.json.

    pip install sacrebleu==2.6.0 rouge_score==0.1.2 transformers==4.40.0
    score_vectors.py > crates/score/tests/vectors.json

All sentences are made up here. transformers has SQuAD's official functions in that version.
"""

import itertools
import json
import random
import sys

from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from transformers.data.metrics import squad_metrics

SEGMENTS = [
    "",
    " ",
    "The heron stands in the shallow water.",
    "the heron stood in shallow water .",
    "A heron, grey and still, waits.",
    "1,000.50 litres at 3.5% (or 7-8 m³) cost $4.99; that's cheap!",
    "1 000 litres at 3,5 % cost 4.99 $",
    "Tom &amp; Ada said &quot;no&quot; &lt;twice&gt; &amp;lt;",
    'Tom & Ada said "no" <twice>',
    "<skipped>Nothing is here<skipped>",
    "soft-\nbroken line\nand another",
    "e.g. the U.S. team won 3-0, 12.-",
    ".,.,. ,,, ... --- -5 5- a.b,c 1.b a.1",
    "Ein Mann läuft über die Straße – „schnell“!",
    "Ein Mann rennt über die Straße.",
    "ﬁne İstanbul ΣΑΣ ΌΔΟΣ ½ ² Ⅷ",
    "日本語 の 文 です 。",
    "naïve naïve cafe\u0301 café",
    "tab\tand\u00a0no-break\u2003em\u3000wide\x1cfile\x85next",
    "emoji 👩‍🚀 and 🇩🇪 flags",
    "{a}[b]~c|d^e_f`g@h#i*j+k=l\\m/n:o;p?q",
    "water water water water",
    "water water",
    "a an the A An The",
    "The-The 'the' the's athe thea \"a\" a_the_b",
    "in the year 1999",
    "1999",
    "year of 1999, in",
    "(the) [year]",
    "“the” «a» —an—",
    "short",
]


def bleu_cases():
    names = {
        "identical": ([SEGMENTS[2], SEGMENTS[5]], [[SEGMENTS[2], SEGMENTS[5]]]),
        "near": ([SEGMENTS[3], SEGMENTS[6]], [[SEGMENTS[2], SEGMENTS[5]]]),
        "an empty hypothesis": (["", SEGMENTS[2]], [[SEGMENTS[4], SEGMENTS[3]]]),
        "an empty reference": ([SEGMENTS[2], SEGMENTS[3]], [["", SEGMENTS[2]]]),
        "nothing but empty hypotheses": (["", " "], [[SEGMENTS[2], SEGMENTS[3]]]),
        "all empty": ([""], [[""]]),
        "nothing in common": (["alpha beta gamma delta epsilon"], [["one two three four five six"]]),
        "too short for four-grams": (["short text"], [["short text"]]),
        "no four-gram right": (["the grey heron stands there now"], [["a grey heron stands here now"]]),
        "only words right": (["water red water blue sky"], [["sky of water"]]),
        "more than the reference has": (["water water water water"], [["water water"]]),
        "entities": ([SEGMENTS[7]], [[SEGMENTS[8]]]),
        "umlauts and quotes": ([SEGMENTS[14]], [[SEGMENTS[13]]]),
        "two references": (
            [SEGMENTS[2], SEGMENTS[14]],
            [[SEGMENTS[3], SEGMENTS[13]], [SEGMENTS[4], "Ein Mann eilt über die Straße."]],
        ),
        "references as close in length": (
            ["one two three four five"],
            [["one two three four five six seven"], ["one two three"]],
        ),
    }
    rng = random.Random(5)
    words = "the a heron water stands in, grey. 3.5 1,000 \"still\" läuft &amp; - (old)".split()
    draw = lambda: " ".join(rng.choice(words) for _ in range(rng.randint(0, 14)))
    for i in range(12):
        size = rng.randint(1, 6)
        names[f"random {i}"] = ([draw() for _ in range(size)], [[draw() for _ in range(size)] for _ in range(1 + i % 3)])
    for name, (hypotheses, references) in names.items():
        metric = BLEU()
        score = metric.corpus_score(hypotheses, references)
        yield {
            "name": name,
            "hypotheses": hypotheses,
            "references": references,
            "score": score.score,
            "precisions": score.precisions,
            "correct": score.counts,
            "total": score.totals,
            "brevity_penalty": score.bp,
            "hypothesis_length": score.sys_len,
            "reference_length": score.ref_len,
            "line": score.format(signature=metric.get_signature().format()),
        }


def main() -> None:
    tokenize = Tokenizer13a()
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    rouge, squad = [], []
    for hypothesis, reference in itertools.product(SEGMENTS, SEGMENTS):
        score = scorer.score(reference, hypothesis)["rougeL"]
        rouge.append([score.precision, score.recall, score.fmeasure])
        golds = [reference] if squad_metrics.normalize_answer(reference) else [""]
        exact = max(squad_metrics.compute_exact(gold, hypothesis) for gold in golds)
        squad.append([exact, max(squad_metrics.compute_f1(gold, hypothesis) for gold in golds)])
    several = []
    for references in (["The year 1999", "1999", ""], ["a", "the"], ["grey heron", "a heron waits"]):
        for answer in ("in 1999", "1999!", "", "heron waits there"):
            golds = [gold for gold in references if squad_metrics.normalize_answer(gold)] or [""]
            best = scorer.score_multi(references, answer)["rougeL"]
            several.append(
                {
                    "answer": answer,
                    "references": references,
                    "rouge_l": [best.precision, best.recall, best.fmeasure],
                    "exact": max(squad_metrics.compute_exact(gold, answer) for gold in golds),
                    "f1": max(squad_metrics.compute_f1(gold, answer) for gold in golds),
                }
            )
    vectors = {
        "segments": SEGMENTS,
        "tokens_13a": [tokenize(segment.rstrip()).split() for segment in SEGMENTS],
        "normalized": [squad_metrics.normalize_answer(segment) for segment in SEGMENTS],
        "bleu": list(bleu_cases()),
        "rouge_l": rouge,
        "squad": squad,
        "several": several,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in vectors.items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
