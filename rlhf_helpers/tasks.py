"""The four tasks: what a prompt is, where an answer ends and what not ending costs.

Every task exists twice: on the bundled texts (offline, small) and with the paper's numbers (`PAPER`
below).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_helpers.records import Queries

DATA = Path(__file__).resolve().parent.parent / "data"
CORPUS = DATA / "corpus"


@dataclass(frozen=True)
class Task:
    """What the paper's Table of tasks says of one task (appendix A). Lengths in tokens.

    A response is always sampled to `response_length`; for scoring and for people it is cut after
    the first `truncate_text` token at index `truncate_after` or later. A response without one
    scores `penalty` instead, after normalisation.
    """

    name: str
    dataset: str  # name of a bundled set: stories, posts, reports
    query_length: int  # at most; a longer text is cut, then cut back to `end_text`
    response_length: int
    truncate_text: str  # one token, where an answer may end
    truncate_after: int  # earliest index of that token in the response
    temperature: float = 0.7  # divides logits in sampling and in every log-probability
    penalty: float = -1.0  # score of a response that never ends (paper: -1)
    start_text: str | None = None  # drop everything up to and including its first occurrence
    end_text: str | None = None  # drop everything after its last occurrence
    prefix: str = ""  # before the query, for the policy only
    suffix: str = ""  # after the query, for the policy only


# The bundled variants scale lengths to a model of three million parameters with 256 tokens of
# context; rules and penalty are the paper's. Answers are longer than the paper's 24 tokens, as the
# small vocabulary cuts words into more pieces: in 24, half of the town's sentences do not end. A
# summary may be a question, so it ends where its document does (the paper's end at a new line).
END = "<|endoftext|>"
SENTIMENT = Task("sentiment", "stories", 48, 32, ".", 12, start_text=".", end_text=".")
DESCRIPTIVENESS = Task("descriptiveness", "stories", 48, 32, ".", 12, start_text=".", end_text=".")
TLDR = Task("tldr", "posts", 192, 32, END, 8, suffix="\n\nTL;DR:")
CNNDM = Task(
    "cnndm",
    "reports",
    192,
    48,
    END,
    16,
    temperature=0.5,
    prefix="Article:\n\n",
    suffix="\n\nTL;DR:",
)
TASKS = {t.name: t for t in (SENTIMENT, DESCRIPTIVENESS, TLDR, CNNDM)}

# The paper's numbers, from the released code (launch.py), for GPT-2's tokenizer.
PAPER = {
    "sentiment": Task("sentiment", "bookcorpus", 64, 24, ".", 16, start_text=".", end_text="."),
    "descriptiveness": Task(
        "descriptiveness", "bookcorpus", 64, 24, ".", 16, start_text=".", end_text="."
    ),
    "tldr": Task("tldr", "tldr", 500, 75, "\n", 55, suffix="\n\nTL;DR:"),
    "cnndm": Task(
        "cnndm",
        "cnndm",
        500,
        75,
        "\n",
        55,
        temperature=0.5,
        end_text="\n",
        prefix="Article:\n\n",
        suffix="\n\nTL;DR:",
    ),
}


def get(name: str) -> Task:
    """Look up a bundled task by name; raises ValueError that lists the names."""
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


@cache
def bundled(dataset: str, split: str = "train"):
    """Load a bundled set as a `datasets.Dataset`.

    Raises FileNotFoundError with the command that makes it.
    """
    from datasets import Dataset

    path = CORPUS / f"{dataset}-{split}.parquet"
    if dataset in {t.dataset for t in PAPER.values()}:
        raise FileNotFoundError(
            f"{dataset!r} is not bundled: draw prompts with `hub.queries`, which takes it from the "
            "Hub or a local copy"
        )
    if not path.exists():
        raise FileNotFoundError(
            f"{path.name} is missing from {path.parent}: run `make data` to write the corpus again"
        )
    return Dataset.from_parquet(str(path))


def prompt_ids(task: Task, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Cut one text into a prompt as the paper does, or return None if the text cannot be used.

    Start: drop up to and including the first start token. Length: keep `query_length`. End: drop
    after the last end token. A text that lacks either token is skipped (released code,
    `language/datasets.py`).
    """
    ids = plain_ids(tokenizer, text)
    if task.start_text is not None:
        start = _token(task.start_text, tokenizer)
        if start not in ids:
            return None
        ids = ids[ids.index(start) + 1 :]
    ids = ids[: task.query_length]
    if task.end_text is not None:
        end = _token(task.end_text, tokenizer)
        if end not in ids:
            return None
        ids = ids[: len(ids) - ids[::-1].index(end)]
    return ids or None


def queries(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    *,
    split: str = "train",
    seed: int = 0,
) -> Queries:
    """Draw `count` prompts in an order fixed by `seed`; returns (count, Q) left-padded.

    No prompt is repeated until the set is used up.
    """
    dataset = bundled(task.dataset, split)
    generator = torch.Generator().manual_seed(seed)

    def passes() -> Iterator[str]:
        while True:
            for i in torch.randperm(len(dataset), generator=generator).tolist():
                yield dataset[i]["text"]

    return queries_from(task, tokenizer, passes(), count, patience=len(dataset))


def queries_from(
    task: Task, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], count: int, *,
    patience: int = 10_000
) -> Queries:  # fmt: skip
    """Cut prompts from any stream of texts until there are `count`; returns (count, Q) left-padded.

    Raises ValueError if `patience` texts on end give no prompt, or the stream ends too early.
    """
    if count < 1:
        raise ValueError(f"{count} prompts for {task.name} are asked for: ask for 1 or more")
    chosen: list[list[int]] = []
    skipped = 0
    for text in texts:
        ids = prompt_ids(task, text, tokenizer)
        skipped = 0 if ids is not None else skipped + 1
        if ids is not None:
            chosen.append(ids)
        if len(chosen) == count:
            return pad_queries(task, chosen, tokenizer)
        if skipped >= patience:
            raise ValueError(
                f"no text of {task.dataset!r} gives a prompt for {task.name} ({skipped} in a row): "
                "does the tokenizer know "
                f"{task.start_text or task.end_text!r}?"
            )
    raise ValueError(
        f"{task.dataset!r} gives {len(chosen)} prompts for {task.name}, but {count} are wanted: "
        "ask for fewer"
    )


def encode(task: Task, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Queries:
    """Encode ready prompts of your own, kept whole; returns (B, Q) left-padded.

    Raises ValueError if one is empty, too long or contains the token that pads.
    """
    if not texts:
        raise ValueError("there is no prompt to encode: give at least one text")
    pad = tokenizer.pad_token_id
    rows = []
    for text in texts:
        ids = plain_ids(tokenizer, text)
        if not ids:
            raise ValueError("a prompt is empty: give at least one word to continue from")
        if len(ids) > task.query_length:
            raise ValueError(
                f"a prompt has {len(ids)} tokens but {task.name} allows {task.query_length}: "
                f"shorten it ({text[:40]!r}...)"
            )
        # an end token may pad, and may stand in a text
        if pad in ids and pad != getattr(tokenizer, "eos_token_id", None):
            raise ValueError(
                f"a prompt holds {tokenizer.batch_decode([[pad]])[0]!r}, which fills rows up: "
                f"leave it out ({text[:40]!r}...)"
            )
        rows.append(ids)
    return pad_queries(task, rows, tokenizer)


def pad_queries(
    task: Task, rows: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> Queries:
    """Add the tokenizer's first token, the task's prefix and suffix, and pad on the left.

    Both masks of the queries are made here, once, and carried from now on: `mask` for the policy,
    `text` for the reward model, which reads neither prefix and suffix nor special tokens.
    """
    first = first_ids(tokenizer)
    before, after = plain_ids(tokenizer, task.prefix), plain_ids(tokenizer, task.suffix)
    width = len(first) + len(before) + max(map(len, rows)) + len(after)
    tokens = torch.full((len(rows), width), tokenizer.pad_token_id, dtype=torch.long)
    mask, text = (torch.zeros(tokens.shape, dtype=torch.bool) for _ in range(2))
    for i, row in enumerate(rows):
        start = width - len(first) - len(before) - len(row) - len(after)
        body = start + len(first) + len(before)  # column where the text begins
        tokens[i, start:] = torch.tensor([*first, *before, *row, *after])
        mask[i, start:] = True
        text[i, start : start + len(first)] = True
        text[i, body : body + len(row)] = is_text(torch.tensor(row), tokenizer)
    return Queries(tokens, mask, text)


def is_text(tokens: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Mark the tokens that people see; shapes (...) long to (...) bool.

    Special tokens are shown to no labeler, so no reward model reads them.
    """
    special = torch.tensor(getattr(tokenizer, "all_special_ids", []), dtype=torch.long)
    return ~torch.isin(tokens, special.to(tokens.device))


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a piece of a text as a reward model reads it: without the special tokens in it."""
    special = set(getattr(tokenizer, "all_special_ids", []))
    return [i for i in plain_ids(tokenizer, text) if i not in special]


def truncate(
    task: Task, responses: Tensor, tokenizer: PreTrainedTokenizerBase
) -> tuple[Tensor, Tensor]:
    """Find where each response ends, for scoring and for people. PPO trains on the whole response.

    responses (B, R) long. Returns (kept (B, R) bool: True up to and including the first ending
    token at index >= truncate_after, finished (B,) bool: whether there is one). An unfinished
    response is kept whole.
    """
    index = torch.arange(responses.shape[1], device=responses.device)
    ends = (responses == _token(task.truncate_text, tokenizer)) & (index >= task.truncate_after)
    finished = ends.any(-1)
    first = torch.where(finished, ends.long().argmax(-1), responses.shape[1] - 1)
    return index <= first.unsqueeze(-1), finished


def texts(task: Task, responses: Tensor, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode responses as a labeler sees them: truncated, special tokens dropped."""
    kept, _ = truncate(task, responses, tokenizer)
    rows = [row[keep].tolist() for row, keep in zip(responses, kept, strict=True)]
    return tokenizer.batch_decode(rows, skip_special_tokens=True)


def query_texts(batch: Queries, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode prompts as a labeler sees them: without padding, prefix, suffix, special tokens."""
    skip = len(first_ids(tokenizer))
    return tokenizer.batch_decode(
        [row[text].tolist()[skip:] for row, text in zip(batch.tokens, batch.text, strict=True)]
    )


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a piece of a text: no token for begin or end is added, because pieces are joined."""
    # not verbose: a document may be longer than the context, prompts are cut from it afterwards
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []


def first_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what this tokenizer puts before every text.

    One token for Llama and Gemma, none for GPT-2, GPT-NeoX and Qwen.
    """
    begin = getattr(tokenizer, "bos_token_id", None)
    return [begin] if begin is not None and tokenizer("a")["input_ids"][:1] == [begin] else []


def _token(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Look up a single token as it stands inside a text.

    Some tokenizers put a space before the first piece of a text.
    """
    alone, word, both = (plain_ids(tokenizer, t) for t in (text, "a", "a" + text))
    inside = both[len(word) :] if both[: len(word)] == word else []
    ids = inside if len(inside) == 1 else alone
    if len(ids) != 1:
        raise ValueError(
            f"{text!r} is {len(ids)} tokens for this tokenizer; the truncation rule needs a single "
            "one"
        )
    return ids[0]
