"""What flows through the project: frozen records that check their own shapes.

    Task -> Queries -> Rollout -> scores -> rewards -> advantages -> policy
                          |
                          +-> Comparison -> Label -> RewardModel (which gives the scores)

Letters in shapes: B rows, K options of a comparison, Q query tokens, R response tokens. A mask is
born once, when tokens are made, and carried; nothing derives it again from token ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor


def _check(condition: bool, owner: object, message: str) -> None:
    if not condition:
        raise ValueError(f"{type(owner).__name__}: {message}")


class _Rows:
    """Slicing by row and moving between devices, for records of tensors or of such records."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, rows: slice | Tensor) -> Self:
        if isinstance(rows, int):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} of {len(self)}")  # or a loop over rows never ends
            rows = slice(rows, rows + 1 or None)
        return self.map(lambda field: field[rows])

    def map(self, function: Callable[[Any], Any]) -> Self:
        """Make the same record of what `function` makes of each tensor or record in it."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{k: v if isinstance(v, int) else function(v) for k, v in parts.items()})

    def to(self, device: torch.device | str) -> Self:
        """Return the same record on another device."""
        return self.map(lambda field: field.to(device))


def digest(*tensors: Tensor) -> str:
    """Sum tensors up in a few characters that change with every number and shape in them."""
    parts = (
        f"{tuple(t.shape)} {t.dtype} ".encode() + t.detach().cpu().contiguous().numpy().tobytes()
        for t in tensors
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


@dataclass(frozen=True)
class Queries(_Rows):
    """Prompts, padded on the left so that every response starts in the same column.

    tokens (B, Q) long; mask (B, Q) bool, True at real tokens, which stand at the end of each row;
    text (B, Q) bool, True at what a reward model reads: neither the task's prefix and suffix nor
    special tokens, but for the tokenizer's own first one (all of `mask` unless given).
    """

    tokens: Tensor
    mask: Tensor
    text: Tensor = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.text is None:
            object.__setattr__(self, "text", self.mask)
        _check(
            self.tokens.dim() == 2 and self.tokens.dtype == torch.long,
            self,
            f"tokens must be (B, Q) long, got {tuple(self.tokens.shape)}",
        )
        _check(
            self.mask.shape == self.tokens.shape and self.mask.dtype == torch.bool,
            self,
            "mask must be bool and shaped like tokens",
        )
        _check(
            self.text.shape == self.mask.shape and not bool((self.text & ~self.mask).any()),
            self,
            "text must be shaped like tokens, and True only where mask is",
        )
        if self.mask.numel():
            _check(
                bool(self.mask[:, -1].all()),
                self,
                "every row needs a real token in its last column (pad on the left)",
            )
            _check(
                not bool((self.mask[:, :-1] & ~self.mask[:, 1:]).any()),
                self,
                "pads may stand only before the real tokens",
            )

    def __len__(self) -> int:
        return len(self.tokens)

    def trimmed(self) -> Queries:
        """Leave out the columns that are pads in every row."""
        return self.map(lambda x: x[:, int((~self.mask).sum(-1).min()) :])

    def repeat(self, times: int) -> Queries:
        """Return each row `times` times in a row, for several samples of one query."""
        fields = (self.tokens, self.mask, self.text)
        return Queries(*(x.repeat_interleave(times, 0) for x in fields))


@dataclass(frozen=True)
class Rollout(_Rows):
    """Responses exactly as sampled, with what the policy thought of them at that moment.

    responses (B, R) long; mask (B, R) bool, True at tokens that count for training; logprobs (B, R)
    float in nats, at the temperature of sampling; values (B, R) float, the value BEFORE each token
    is read. Each `answers` neighbouring rows share their query, which then is computed once.
    """

    queries: Queries
    responses: Tensor
    mask: Tensor
    logprobs: Tensor
    values: Tensor
    answers: int = 1

    def __post_init__(self) -> None:
        shape = self.responses.shape
        _check(
            self.responses.dim() == 2 and self.responses.dtype == torch.long,
            self,
            f"responses must be (B, R) long, got {tuple(shape)}",
        )
        _check(
            len(self.queries) == shape[0],
            self,
            f"{len(self.queries)} queries but {shape[0]} responses",
        )
        _check(
            self.mask.shape == shape and self.mask.dtype == torch.bool,
            self,
            "mask must be bool and shaped like responses",
        )
        for name in ("logprobs", "values"):
            tensor = getattr(self, name)
            _check(
                tensor.shape == shape,
                self,
                f"{name} must be shaped like responses {tuple(shape)}, got {tuple(tensor.shape)}",
            )
            _check(tensor.is_floating_point(), self, f"{name} must be float")
        if self.answers > 1:
            first = self.queries.tokens[:: self.answers].repeat_interleave(self.answers, 0)
            same = first.shape == self.queries.tokens.shape
            _check(
                same and torch.equal(first, self.queries.tokens),
                self,
                f"{self.answers} neighbouring rows must share their query",
            )

    def __len__(self) -> int:
        return len(self.responses)

    def __getitem__(self, rows: slice | Tensor) -> Rollout:
        if self.answers == 1:
            return super().__getitem__(rows)
        alone = replace(self, answers=1)[rows]  # rows that leave their neighbours stand alone
        return replace(alone, answers=self.answers) if self._grouped(rows) else alone

    def _grouped(self, rows: slice | Tensor) -> bool:
        """Say whether these rows take the answers to a query all or none, and in their order."""
        if isinstance(rows, slice):
            start, stop, stride = rows.indices(len(self))
            return stride == 1 and start % self.answers == 0 and stop % self.answers == 0
        if isinstance(rows, int) or rows.dtype == torch.bool or len(rows) % self.answers:
            return False
        groups = rows.view(-1, self.answers)
        along = torch.arange(self.answers, device=rows.device)
        return torch.equal(groups, groups[:, :1] // self.answers * self.answers + along)


@dataclass(frozen=True)
class Comparison:
    """A question for a labeler: which of these continuations of `query` is best?

    Text, not token ids, so that any tokenizer can read it later. `source` says which model wrote
    the options, `round` counts collections from 0 (online training asks again later).
    """

    task: str
    query: str
    options: tuple[str, ...]
    source: str = "base"
    round: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        _check(len(self.options) >= 2, self, f"needs at least two options, got {len(self.options)}")
        _check(all(isinstance(o, str) for o in self.options), self, "options must be text")

    @cached_property
    def id(self) -> str:
        """Hash of the content: the same comparison has the same id everywhere.

        So inserting it twice is harmless.
        """
        content: list[Any] = [self.task, self.query, list(self.options), self.source, self.round]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:20]

    @property
    def has_equal_options(self) -> bool:
        """Whether all options read the same, so that a choice between them tells nothing.

        Such a comparison is not shown to labelers, not exported and not trained on. A comparison in
        which only some options are equal still tells which of the different ones is better.
        """
        return all(same_text(self.options[0], option) for option in self.options[1:])


def same_text(first: str, second: str) -> bool:
    """Tell whether two options look the same on a card, which strips space at both ends."""
    return first.strip() == second.strip()


@dataclass(frozen=True)
class Label:
    """A labeler's answer: `choice` is the index into the comparison's own options.

    Not the order they were shown in. `seconds` is the time the labeler took, `created` seconds
    since 1970 (0: not known). `simulated` says that no person gave it. `task` is filled in by the
    store, which knows the comparison; it makes no difference between labels.
    """

    comparison_id: str
    labeler: str
    choice: int
    seconds: float = 0.0
    created: float = 0.0
    simulated: bool = False
    task: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check(
            isinstance(self.choice, int) and self.choice >= 0,
            self,
            f"choice must be an index from 0, got {self.choice!r}",
        )
        _check(bool(self.labeler), self, "a label needs the name of its labeler")
