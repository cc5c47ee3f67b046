"""Examine a base model: python data/town/examine.py FOLDER, five seeds, both held-out splits.

Perplexity and choice; what 500 continuations of story beginnings (temperature 0.7) hold: whole
sentences that the grammar can have made, people, things and places that stay, contradictions; and
zero-shot summaries that state only true facts. The validation split has new stories of the kinds
that training tells, the test split kinds of event, people and words that training never tells.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from rlhf_helpers import models, sampling, tasks  # noqa: E402
from town import corpus, stream, train  # noqa: E402
from town.facts import FactReader  # noqa: E402
from town.tracker import Tracker  # noqa: E402
from town.variety import LOST  # noqa: E402
from town.words import sentences  # noqa: E402

SPLITS = ("validation", "test")
SAMPLES, TEMPERATURE, SEEDS = 100, 0.7, range(5)  # samples a seed
LONGEST = 64  # tokens of a beginning
PROMPT = tasks.Task("beginning or post", "stories", 192, 24, ".", 12)
SPREAD = 2.78 / math.sqrt(len(SEEDS))  # Student's t, four degrees of freedom, 95 %


def beginnings(tokenizer, split: str, seed: int) -> list[str]:
    """Return the first sentences of stories of a split, at most 64 tokens of each."""
    found = []
    for number in range(seed * 1000, seed * 1000 + 3 * SAMPLES):
        text, taken = corpus.make("stories", split, number)["text"], ""
        for sentence in sentences(text)[:2]:
            longer = f"{taken} {sentence}".strip()
            taken = longer if len(tokenizer(longer)["input_ids"]) <= LONGEST else taken
        found += [taken] if taken else []
    return found[:SAMPLES]


def continued(policy: models.Policy, prompts: Sequence[str], length: int, seed: int) -> list[str]:
    """Sample one continuation of each prompt, cut where the document ends."""
    queries = tasks.encode(PROMPT, prompts, policy.tokenizer)
    generator = torch.Generator().manual_seed(seed)
    rollout = sampling.sample(policy, queries, length, TEMPERATURE, generator, micro_batch=50)
    texts = policy.tokenizer.batch_decode(rollout.responses, skip_special_tokens=False)
    return [text.split(policy.tokenizer.eos_token)[0] for text in texts]


def answer_nats(policy: models.Policy, prompts: Sequence[str], seed: int) -> float:
    """Return what an answer of 24 tokens leaves to choose: its mean surprise at its own
    temperature."""
    queries = tasks.encode(PROMPT, prompts, policy.tokenizer)
    generator = torch.Generator().manual_seed(seed)
    rollout = sampling.sample(policy, queries, 24, TEMPERATURE, generator, micro_batch=50)
    return -(rollout.logprobs * rollout.mask).sum(-1).mean().item()


def read(tracker: Tracker, prompts: list[str], texts: list[str]) -> dict[str, float]:
    """Return the shares of well-formed sentences, of texts that keep who and what they are about,
    and of those without any contradiction."""
    good = whole = kept = sound = 0
    kinds: Counter[str] = Counter()
    for prompt, text in zip(prompts, texts, strict=True):
        said = sentences(text.strip())[:-1]  # the last one is cut off
        well = [tracker.recogniser.well_formed(s) for s in said]
        good, whole = good + sum(well), whole + len(said)
        readable = " ".join(s for s, fine in zip(said, well, strict=True) if fine)
        wrong = {kind for _, kind in tracker.continues(prompt, readable)} - {"unreadable"}
        kinds.update(wrong)
        kept += not wrong & LOST
        sound += not wrong
    print(f"contradictions by kind: {dict(kinds)}", file=sys.stderr)
    return {
        "well_formed": good / whole,
        "kept": kept / len(texts),
        "consistent": sound / len(texts),
        "sentences": whole,
    }


def truthful(policy: models.Policy, reader: FactReader, split: str, seed: int) -> float:
    """Return the share of zero-shot summaries of posts that state a fact and only true ones."""
    rows = [corpus.make("posts", split, seed * 1000 + n) for n in range(SAMPLES)]
    prompts = [f"{row['text']}\n\nTL;DR:" for row in rows]
    summaries = continued(policy, prompts, 48, seed)
    return statistics.mean(
        reader.accurate(summary.strip(), row, "posts")
        for summary, row in zip(summaries, rows, strict=True)
    )


def losses(folder: Path, tokenizer) -> dict[str, float]:
    """Return perplexities and the choice per token of the stories of both held-out splits."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    out = {}
    for split in ("validation", "test"):
        for kind in stream.BLOCK:
            rows = stream.encoded(tokenizer, kind, split, range(300))
            out[f"perplexity_{split}_{kind}"] = train.perplexity(model, rows, "cpu")
        out[f"nats_a_token_{split}"] = math.log(out[f"perplexity_{split}_stories"])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", type=int, default=0, help="print so many samples")
    args = parser.parse_args()
    policy, tracker, reader = models.Policy.load(args.folder), Tracker(), FactReader()
    measured = {k: round(v, 3) for k, v in losses(args.folder, policy.tokenizer).items()}
    for split in SPLITS:
        found: list[dict[str, float]] = []
        for seed in SEEDS:
            prompts = beginnings(policy.tokenizer, split, seed)
            texts = continued(policy, prompts, 96, seed)
            found.append(
                read(tracker, prompts, texts)
                | {"truthful": truthful(policy, reader, split, seed)}
                | {"answer_nats": answer_nats(policy, prompts, seed)}
            )
            for prompt, text in list(zip(prompts, texts, strict=True))[: args.show]:
                print(f"\n* {prompt}\n  ->{text}")
        for name in found[0]:
            values = [row[name] for row in found]
            measured[f"{name}_{split}"] = round(statistics.mean(values), 4)
            measured[f"{name}_{split}_interval"] = round(SPREAD * statistics.stdev(values), 4)
    (args.folder / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
