"""What the tests share: models of a few thousand weights, a tokenizer of letters, a task that fits
both."""

import pytest
import torch

from rlhf_helpers import models
from rlhf_helpers.records import Queries
from rlhf_helpers.tasks import Task

torch.set_num_threads(1)  # sums in one order, so that "bit for bit" means it

ALPHABET = "_.abcdefghijklmn"  # 0 pads, 1 ends an answer


class Letters:
    """A tokenizer by duck typing: one letter, one token."""

    pad_token_id = 0
    name_or_path = "letters"

    def __len__(self):
        return len(ALPHABET)

    def __call__(self, text, add_special_tokens=True, verbose=True):
        if isinstance(text, str):
            return {"input_ids": [ALPHABET.index(letter) for letter in text]}
        return {"input_ids": [self(t)["input_ids"] for t in text]}

    def batch_decode(self, rows, skip_special_tokens=False):
        return ["".join(ALPHABET[i] for i in row if i or not skip_special_tokens) for row in rows]


@pytest.fixture
def letters():
    return Letters()


@pytest.fixture
def task():
    return Task(
        "toy",
        "none",
        query_length=6,
        response_length=5,
        truncate_text=".",
        truncate_after=2,
        temperature=0.7,
    )


@pytest.fixture
def make_policy(letters):
    """Make a tiny policy whose every weight (value head included) was stirred, so that all of them
    matter."""

    def make(seed=0, stir=0.3, **sizes):
        policy = models.tiny_policy(seed=seed, **sizes)
        policy.tokenizer = letters
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for weight in policy.parameters():
                weight += stir * torch.randn(weight.shape, generator=generator)
        return policy

    return make


@pytest.fixture
def policy(make_policy):
    return make_policy()


@pytest.fixture
def ragged():
    """Four prompts of 6, 1, 3 and 4 tokens; the pads are token 0."""
    rows = [[3, 9, 2, 15, 4, 7], [5], [8, 2, 11], [6, 6, 13, 2]]
    tokens, mask = torch.zeros(4, 6, dtype=torch.long), torch.zeros(4, 6, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, 6 - len(row) :], mask[i, 6 - len(row) :] = torch.tensor(row), True
    return Queries(tokens, mask)
