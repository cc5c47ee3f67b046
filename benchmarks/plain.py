"""PPO and reward fitting as one writes them first: transformers' own `generate`, logits of every
position, every pass made anew.

It does the same work as `rlhf_helpers` and arrives at the same numbers (tests/test_benchmarks.py),
with none of its savings. It is what `benchmarks/speed.py` measures the savings against.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedModel


def generate(lm: PreTrainedModel, tokens: Tensor, response: int, temperature: float) -> Tensor:
    """Sample with transformers' own loop. tokens (B, Q), no pads; returns (B, Q + R)."""
    # transformers 5 would take the model's own where the settings say None, and stop there
    lm.generation_config.eos_token_id = None
    settings = GenerationConfig(
        max_new_tokens=response, do_sample=True, temperature=temperature, top_k=0, top_p=1.0,
        eos_token_id=None, pad_token_id=0
    )  # fmt: skip
    return lm.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=settings)


def read(
    lm: PreTrainedModel,
    value_head: nn.Module | None,
    tokens: Tensor,
    query: int,
    temperature: float,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities and values of the response: (B, R) each, by way of the logits of all
    positions (B, Q + R, V)."""
    out = lm(
        tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=value_head is not None
    )
    logprobs = (out.logits / temperature).log_softmax(-1)[:, query - 1 : -1]
    logprobs = logprobs.gather(2, tokens[:, query:, None]).squeeze(2)
    values = (
        value_head(out.hidden_states[-1]).squeeze(2)[:, query - 1 : -1]
        if value_head is not None
        else None
    )
    return logprobs, values


def whiten(x: Tensor, shift_mean: bool = True) -> Tensor:
    whitened = (x - x.mean()) * torch.rsqrt(x.var(correction=0) + 1e-8)
    return whitened if shift_mean else whitened + x.mean()


def advantages_of(rewards: Tensor, values: Tensor, lam: float) -> Tensor:
    """GAE with gamma = 1, from the last token to the first. All (B, R)."""
    found, later, next_value = [], torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        later = rewards[:, t] + next_value - values[:, t] + lam * later
        next_value = values[:, t]
        found.append(later)
    return torch.stack(found[::-1], dim=1)


class PPO:
    """Policy with a value head on the same trunk, reference, reward model and optimizer; `step` is
    one textbook step."""

    def __init__(self, lm: PreTrainedModel, classifier: PreTrainedModel, lr: float):
        self.lm, self.reference, self.classifier = lm, copy.deepcopy(lm), classifier
        self.value_head = nn.Linear(lm.config.n_embd, 1, device=lm.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.optimizer = torch.optim.Adam(
            [*lm.parameters(), *self.value_head.parameters()], lr=lr, eps=1e-5
        )

    def step(
        self,
        queries: Tensor,
        response: int,
        temperature: float,
        epochs: int,
        beta: float,
        lam: float = 0.95,
    ) -> None:
        query = queries.shape[1]
        with torch.no_grad():
            tokens = generate(self.lm, queries, response, temperature)
            old, old_values = read(self.lm, self.value_head, tokens, query, temperature)
            reference, _ = read(self.reference, None, tokens, query, temperature)
            scores = self.classifier(tokens, attention_mask=torch.ones_like(tokens)).logits.squeeze(
                1
            )
            rewards = -beta * (old - reference)
            rewards[:, -1] += scores
        for _ in range(epochs):
            order = torch.randperm(len(tokens), device=tokens.device)
            self.optimizer.zero_grad()
            self.loss(
                tokens[order],
                query,
                old[order],
                old_values[order],
                rewards[order],
                temperature,
                lam,
            ).backward()
            self.optimizer.step()

    def loss(
        self, tokens: Tensor, query: int, old: Tensor, old_values: Tensor, rewards: Tensor,
        temperature: float, lam: float, clip: float = 0.2,
    ) -> Tensor:  # fmt: skip
        """PPO's two clipped losses on one minibatch; rows of all arguments belong together."""
        advantages = advantages_of(whiten(rewards, shift_mean=False), old_values, lam)
        returns, advantages = advantages + old_values, whiten(advantages)
        now, values = read(self.lm, self.value_head, tokens, query, temperature)
        ratio = (now - old).exp()
        policy = torch.max(
            -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
        ).mean()
        clipped = old_values + (values - old_values).clamp(-clip, clip)
        value = 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2).mean()
        return policy + 0.1 * value


def option_rewards(classifier: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Reward (B, K) options in B K rows of their own. tokens (B, K, Q + R), no pads."""
    rows = tokens.flatten(0, 1)
    return classifier(rows, attention_mask=torch.ones_like(rows)).logits.view(tokens.shape[:2])


def fit_reward(
    classifier: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    tokens: Tensor,
    choices: Tensor,
    batch: int,
) -> None:
    """One pass over the comparisons."""
    for i in range(0, len(tokens), batch):
        optimizer.zero_grad()
        cross_entropy(
            option_rewards(classifier, tokens[i : i + batch]), choices[i : i + batch]
        ).backward()
        optimizer.step()
