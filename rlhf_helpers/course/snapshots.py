"""What a policy writes while it is tuned: the same prompts, answered again and again.

The random numbers are the same each time, so that only what the policy learned changes the text.
"""

from __future__ import annotations

import html

import torch

from rlhf_helpers import sampling, tasks
from rlhf_helpers.labels.frontend import visible
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Queries
from rlhf_helpers.tasks import Task

COLUMNS = 4  # of the table, at most: the first, the last, and two between


class Snapshots:
    """Answers of a policy to the same prompts at several steps of its training."""

    def __init__(self, policy: Policy, task: Task, queries: Queries, seed: int = 0) -> None:
        self.policy, self.task, self.queries, self.seed = policy, task, queries, seed
        self.prompts = tasks.query_texts(queries, policy.tokenizer)
        self.taken: dict[int, list[str]] = {}  # by the number of steps done

    def take(self, steps_done: int) -> list[str]:
        """Answer the prompts with the policy as it is now; training notices nothing of it."""
        generator = torch.Generator(self.policy.device).manual_seed(self.seed)
        task = self.task
        rollout = sampling.sample(
            self.policy, self.queries, task.response_length, task.temperature, generator
        )
        self.taken[steps_done] = tasks.texts(task, rollout.responses, self.policy.tokenizer)
        return self.taken[steps_done]

    def chosen(self) -> list[int]:
        """Choose the steps to show: the first, the last, and some evenly between."""
        steps = sorted(self.taken)
        if len(steps) <= COLUMNS:
            return steps
        return [steps[round(i * (len(steps) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]

    def bundle(self) -> dict[str, str]:
        """Lay the answers out as a table, for notebooks and as plain text; all of it escaped."""
        steps = self.chosen()
        heads = ["the prompt", *("before" if n == 0 else f"after step {n:,}" for n in steps)]
        rows = [
            [f"... {prompt.strip()}", *(self.taken[n][i].strip() for n in steps)]
            for i, prompt in enumerate(self.prompts)
        ]
        style = "text-align:left;vertical-align:top;padding:.3rem .8rem;max-width:18rem"
        head = "".join(f'<th scope="col" style="{style}">{h}</th>' for h in heads)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{style}"><bdi>{html.escape(visible(text))}</bdi></td>' for text in row
            )
            + "</tr>"
            for row in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        plain = "\n\n".join(
            "\n".join(f"{head}: {visible(text)}" for head, text in zip(heads, row, strict=True))
            for row in rows
        )
        return {"text/html": table, "text/plain": plain}
