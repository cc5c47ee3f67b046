"""The rows a base model learns from: fresh documents for ever, in blocks, with drills among them.

Half of the documents begin as a prompt does: without the end token, stories after a sentence or
two. Posts and reports share rows, so that something sensible follows the end of the first.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from town import corpus
from town.files import load

SEED, VOCABULARY, CONTEXT = 2019, 3072, 256
END, PAD = "<|endoftext|>", "<|pad|>"
BATCH_TOKENS = 4096  # a step, about
BLOCK = {"stories": 600, "posts": 600, "reports": 350}  # documents that are shuffled together
DRILLS_ONLY, DRILL_ROWS, DRILL_LENGTH = 20, 32, 40
DRILLS_AMONG = 4  # rows of a batch
IGNORED = -100  # cross_entropy's mark for targets that do not count


def document(kind: str, split: str, number: int) -> str:
    """Make one document as the base model reads it: posts and reports with their summary."""
    row = corpus.make(kind, split, number)
    opening = "Article:\n\n" if kind == "reports" else ""
    return (
        row["text"] if kind == "stories" else f"{opening}{row['text']}\n\nTL;DR: {row['summary']}"
    )


def make_tokenizer(folder: Path, size: int = 10_000) -> None:
    """Train the byte-level BPE tokenizer on the first documents of every kind, and save it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (document(kind, "train", n) for kind in BLOCK for n in range(size))
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        bos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT,
    ).save_pretrained(folder)


def encoded(tokenizer, kind: str, split: str, numbers: Sequence[int]) -> list[list[int]]:
    """Return documents as tokens, an end token before and after each."""
    end = tokenizer.eos_token_id
    texts = [document(kind, split, n) for n in numbers]
    return [[end, *ids, end] for ids in tokenizer(texts)["input_ids"]]


def frequencies(tokenizer, size: int = 300) -> torch.Tensor:
    """Return the share of each token in the first documents, (V,); none has 0."""
    counts = torch.full((len(tokenizer),), 0.3)
    for kind in BLOCK:
        for row in encoded(tokenizer, kind, "train", range(size)):
            counts += torch.bincount(torch.tensor(row), minlength=len(tokenizer))
    return counts / counts.sum()


def name_tokens(tokenizer) -> list[int]:
    """Return the names of one token."""
    ids = (tokenizer.convert_tokens_to_ids(f"\u0120{p.name}") for p in load().people)
    return [i for i in ids if i not in (None, tokenizer.unk_token_id)]


def drill(words: Sequence[int], names: Sequence[int], rng: random.Random) -> list[int]:
    """Make a row that only repeats names or any words: two to four in any order, or a phrase of 4
    to 20 again and again."""
    pool = names if rng.random() < 0.5 else words
    if rng.random() < 0.5:
        return rng.choices(rng.sample(pool, rng.randint(2, 4)), k=DRILL_LENGTH)
    return (rng.sample(pool, rng.randint(4, 20)) * DRILL_LENGTH)[:DRILL_LENGTH]


def as_prompt(row: list[int], full_stop: int, rng: random.Random) -> list[int]:
    """Leave the end token out, of a story its first sentence or two as well."""
    row = row[1:]
    for _ in range(rng.choice((0, 1, 1, 2))):
        if len(row) > 120 and full_stop in row[:60]:
            row = row[row.index(full_stop) + 1 :]
    return row


def block(tokenizer, number: int, rng: random.Random) -> list[torch.Tensor]:
    """Make the batches of one block: fresh documents, rows of like length together."""
    full_stop = tokenizer("It ends.")["input_ids"][-1]
    kinds = {
        kind: encoded(tokenizer, kind, "train", range(number * size, (number + 1) * size))
        for kind, size in BLOCK.items()
    }
    papers = kinds["posts"] + kinds["reports"]
    rng.shuffle(papers)
    third = len(papers) // 3
    joined = [a + b[1:] for a, b in zip(papers[:third], papers[third : 2 * third], strict=True)]
    rows = kinds["stories"] + papers[2 * third :] + joined
    rows = [as_prompt(row, full_stop, rng) if rng.random() < 0.5 else row for row in rows]
    rows = sorted((row[:CONTEXT] for row in rows), key=lambda row: (len(row) // 8, rng.random()))
    groups: list[list[list[int]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    words, names = range(2, len(tokenizer)), name_tokens(tokenizer)
    return [pad(rows + [drill(words, names, rng) for _ in range(DRILLS_AMONG)]) for rows in groups]


def blocks(tokenizer, first: int) -> Iterator[list[torch.Tensor]]:
    """Yield blocks for ever from block `first` on; block 0 begins with drills alone."""
    for number in range(first, sys.maxsize):
        rng = random.Random(f"{SEED} block {number}")
        words, names = range(2, len(tokenizer)), name_tokens(tokenizer)
        drills = [
            pad([drill(words, names, rng) for _ in range(DRILL_ROWS)])
            for _ in range(0 if number else DRILLS_ONLY)
        ]
        yield drills + block(tokenizer, number, rng)


def pad(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])
