"""Model families: is one computed here as transformers computes it?"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache


@torch.no_grad()
def check(policy: Any) -> None:
    """Raise ValueError unless the model is causal and we compute it as transformers does.

    Five tokens are enough to compare logits, left padding and cache: they find families that change
    their logits after the head, or need more than tokens, mask and positions.
    """
    lm, device = policy.lm, policy.device
    name, was_training = lm.config.model_type, lm.training
    lm.eval()
    # (1, 5)
    tokens = torch.arange(3, 8, device=device)[None] % lm.config.get_text_config().vocab_size
    mask = torch.ones_like(tokens, dtype=torch.bool)
    theirs = lm(tokens, attention_mask=mask).logits.float()
    scale = max(1.0, theirs.abs().max().item())
    other = torch.cat([tokens[:, :-1], tokens[:, :1]], 1)
    if not torch.allclose(
        lm(other, attention_mask=mask).logits.float()[:, :-1],
        theirs[:, :-1],
        rtol=0.0,
        atol=1e-5 * scale,
    ):
        raise ValueError(
            f"{name} is no causal language model: its early tokens see later ones; choose one that "
            "writes from left to right"
        )
    padded, wide = torch.cat([tokens[:, :2], tokens], 1), torch.cat([~mask[:, :2], mask], 1)
    cache = DynamicCache()
    ways = {
        "logits": lambda: policy.hidden(tokens, mask),
        "padding": lambda: policy.hidden(padded, wide)[:, 2:],
        "cache": lambda: torch.cat(
            [
                policy.hidden(tokens[:, a:b], mask[:, :b], cache)
                for a, b in ((0, 3), (3, 4), (4, 5))
            ],
            1,
        ),
    }
    for what, way in ways.items():
        try:
            ours = policy.logits(way())
            same = ours.shape == theirs.shape and torch.allclose(
                ours, theirs, rtol=0.0, atol=1e-3 * scale
            )
        except Exception:  # whatever a strange family does with our arguments
            same = False
        if not same:
            raise ValueError(
                f"models of the family {name!r} are not supported: {what} come out otherwise than "
                "in transformers' own forward; "
                "GPT-2, Llama, Qwen, GPT-NeoX and families like them are"
            )
    lm.train(was_training)
