"""A playground for samples: one prompt, a few answers, and how likely each token was.

It only reads the model, in the thread in which the click arrives; give it a policy that is not
being trained at that moment.
"""

from __future__ import annotations

import html
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers import sampling, tasks
from rlhf_helpers.labels import frontend
from rlhf_helpers.labels.frontend import visible
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Rollout
from rlhf_helpers.tasks import Task

STATIC = Path(__file__).resolve().parent / "static"
MOST_SAMPLES, HOTTEST, OTHERS = 8, 3.0, 5


@dataclass(frozen=True)
class Token:
    """One sampled token, with its probability at the temperature and its rank (from 1)."""

    text: str
    p: float
    rank: int
    kept: bool  # False behind the end of the answer
    others: tuple[tuple[str, float], ...]  # the likeliest tokens at this place


@dataclass(frozen=True)
class Sample:
    """One answer, token by token, and whether it came to an end in time."""

    tokens: tuple[Token, ...]
    finished: bool

    @property
    def text(self) -> str:
        """The answer as people see it: up to its end."""
        return "".join(token.text for token in self.tokens if token.kept)


def show(policy: Policy, task: Task, prompt: str | None = None) -> Any:
    """Show the playground, with a prompt of the task unless one is given.

    `.sample(...)` on what is returned does the same without a browser.
    """
    tokenizer = policy.tokenizer
    if prompt is None:
        queries = tasks.queries(task, tokenizer, 1, split="test", seed=3)
        prompt = tasks.query_texts(queries, tokenizer)[0]
    made: Any = _live_playground()() if frontend.way_to_ask() == "live" else Playground()
    made.policy, made.task, made.lock = policy, task, threading.Lock()
    made.lead = prompt[: len(prompt) - len(prompt.lstrip())]
    prompt = prompt.strip()
    made.scene = {
        "prompt": prompt,
        "temperature": task.temperature,
        "top_k": 0,
        "seed": 0,
        "samples": 3,
        "results": [],
        "error": "",
    }
    made.scene |= {
        "vocabulary": len(tokenizer),
        "hottest": HOTTEST,
        "most": MOST_SAMPLES,
        "length": task.response_length,
        "limit": task.query_length,
    }
    made.handle(made.scene)  # the first answers are there before anybody asks
    return made


class Playground:
    """The playground where no widget can be shown: a picture, and `sample`."""

    policy: Policy
    task: Task
    scene: dict[str, Any]  # what is to be seen, in plain values
    lock: threading.Lock
    lead: str = ""  # what stands before prompts: a space, where they follow a full stop

    def sample(
        self, prompt: str, *, temperature: float | None = None, top_k: int = 0, seed: int = 0,
        samples: int = 3
    ) -> list[Sample]:  # fmt: skip
        """Sample answers to a prompt; the same arguments give the same answers.

        `temperature`: the task's unless given, 0 takes the likeliest token each time. `top_k` draws
        from the k likeliest tokens only: for looking, never for training, which needs the
        probabilities of what was really drawn. The probabilities told are those of the whole
        vocabulary. Raises ValueError, which says what to change, for what cannot be sampled.
        """
        if not prompt.strip():
            raise ValueError("a prompt is empty or blank: write at least one word to continue from")
        heat = self.task.temperature if temperature is None else temperature
        for name, value, low, high in (
            ("temperature", heat, 0, HOTTEST),
            ("top-k", top_k, 0, len(self.policy.tokenizer)),
            ("the number of samples", samples, 1, MOST_SAMPLES),
            ("the seed", seed, 0, 2**31),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} is {value:g}: choose something from {low} to {high:g}")
        text = self.lead + prompt.strip()
        queries = tasks.encode(self.task, [text], self.policy.tokenizer).repeat(samples)
        policy: Any = _OnlyTop(self.policy, top_k) if top_k else self.policy
        generator = torch.Generator(self.policy.device).manual_seed(seed)
        rollout = sampling.sample(policy, queries, self.task.response_length, heat, generator)
        kept, finished = (
            x.tolist() for x in tasks.truncate(self.task, rollout.responses, self.policy.tokenizer)
        )
        return [
            Sample(self._tokens(rollout[i], kept[i], heat or 1.0), finished[i])
            for i in range(samples)
        ]

    @torch.no_grad()
    def _tokens(self, row: Rollout, kept: Sequence[bool], temperature: float) -> tuple[Token, ...]:
        """Look up the probabilities of the whole vocabulary at every place of one answer."""
        tokens = torch.cat([row.queries.tokens, row.responses[:, :-1]], 1)  # (1, Q + R - 1)
        seen = torch.cat([row.queries.mask, row.mask[:, :-1]], 1)
        hidden = self.policy.hidden(tokens, seen)[0, -row.responses.shape[1] :]  # (R, d)
        shares = (self.policy.logits(hidden).float() / temperature).softmax(-1).cpu()  # (R, V)
        drawn = row.responses[0].cpu()  # (R,)
        mine = shares.gather(1, drawn.unsqueeze(1))  # (R, 1)
        ranks = (shares > mine).sum(1) + 1
        best = shares.topk(min(OTHERS, shares.shape[1]))

        def word(token: int | Tensor) -> str:
            return visible(self.policy.tokenizer.decode([int(token)]))

        def others(i: int) -> tuple[tuple[str, float], ...]:
            pairs = zip(best.indices[i], best.values[i].tolist(), strict=True)
            return tuple((word(k), p) for k, p in pairs)

        return tuple(
            Token(word(token), float(mine[i]), int(ranks[i]), kept[i], others(i))
            for i, token in enumerate(drawn)
        )

    def handle(self, message: Mapping[str, Any]) -> None:
        """Take what the browser sent, which is not trusted, and show new samples, or the reason
        why there are none above the old ones.

        `again` asks for other samples with the same settings: it takes the next seed.
        """
        asked = {
            name: message.get(name, self.scene[name])
            for name in ("prompt", "temperature", "top_k", "seed", "samples")
        }
        with self.lock:  # one at a time, whichever threads the clicks arrive in
            try:
                words = {
                    name: int(_number(asked[name], name)) for name in ("top_k", "seed", "samples")
                }
                if message.get("again") is True:
                    asked["seed"] = words["seed"] = words["seed"] + 1
                prompt, heat = str(asked["prompt"]), _number(asked["temperature"], "temperature")
                found = [asdict(x) for x in self.sample(prompt, temperature=heat, **words)]
                used = len(tasks.plain_ids(self.policy.tokenizer, self.lead + prompt.strip()))
                changes = {**asked, "results": found, "used": used, "error": ""}
            # too long a prompt, too little memory: said on the playground, not lost in a log
            except Exception as error:
                changes = {"error": visible(str(error) or type(error).__name__)}
            self.show({**self.scene, **changes, "heard": message.get("number")})

    def show(self, scene: dict[str, Any]) -> None:
        """Take a new scene to be seen."""
        self.scene = scene

    def __repr__(self) -> str:
        return f"a playground for samples of the task {self.task.name}; sample(prompt) gives some"

    def picture(self) -> str:
        """Draw the samples as plain HTML; a token's tooltip gives its probability."""
        rows = "".join(
            f"<li><bdi>{''.join(map(_still, x['tokens']))}</bdi></li>"
            for x in self.scene["results"]
        )
        error = f"<p>{html.escape(self.scene['error'])}</p>" if self.scene["error"] else ""
        prompt = html.escape(visible(self.scene["prompt"]))
        return f"<div><p><strong>{prompt}</strong></p>{error}<ol>{rows}</ol></div>"

    def _repr_html_(self) -> str:
        return self.picture()


class _OnlyTop:
    """A policy that can draw its k likeliest tokens only; everything else of it is as it was."""

    def __init__(self, policy: Policy, k: int) -> None:
        self._policy, self._k = policy, k

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def logits(self, hidden: Tensor) -> Tensor:
        logits = self._policy.logits(hidden)  # (B, V)
        least = logits.topk(min(self._k, logits.shape[-1])).values[..., -1:]
        return logits.masked_fill(logits < least, -math.inf)


def _still(token: Mapping[str, Any]) -> str:
    grey = "" if token["kept"] else ' style="opacity:.6"'
    return f'<span title="{100 * token["p"]:.1f} %"{grey}>{html.escape(token["text"])}</span>'


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name.replace('_', '-')} must be a number")
    return float(value)


@cache
def _live_playground() -> type:
    """Make the class of the live playground: nothing else here needs the notebook packages."""
    import anywidget
    import traitlets

    class LivePlayground(Playground, anywidget.AnyWidget):
        """The playground in the browser (`static/playground.js`)."""

        _esm = frontend.script(STATIC / "playground.js")
        _css = frontend.style(STATIC / "playground.css")
        view = traitlets.Dict().tag(sync=True)

        def __init__(self) -> None:
            super().__init__()
            self.on_msg(
                lambda _, message, __: self.handle(message) if isinstance(message, dict) else None
            )

        def show(self, scene: dict[str, Any]) -> None:
            self.scene = self.view = scene

        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            bundle = super()._repr_mimebundle_(**kwargs)
            data, extra = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            return {
                **data,
                "text/html": self.picture(),
                "text/plain": Playground.__repr__(self),
            }, extra

    return LivePlayground
