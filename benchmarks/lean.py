"""Sampling from GPT-2 with its layers written out: how much faster `sampling.sample` could be if it
had to know one family only.

It draws the same tokens from the same random numbers (tests/test_benchmarks.py), without
transformers' modules and their calls, with room for keys and values made beforehand; prompts of one
length, no pads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, scaled_dot_product_attention
from transformers import GPT2LMHeadModel

from rlhf_helpers.tensors import draw, token_logprobs


@torch.no_grad()
def sample(
    lm: GPT2LMHeadModel, tokens: Tensor, uniform: Tensor, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Sample a token for each column of `uniform` (B, R) after tokens (B, Q); products in `dtype`.
    Returns tokens, logprobs (B, R)."""
    trunk, heads = lm.transformer, lm.config.n_head
    rows, length = tokens.shape
    linears = [
        [
            (x.weight.to(dtype), x.bias.to(dtype))
            for x in (b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj)
        ]
        for b in trunk.h
    ]
    shape = (2, rows, heads, length + uniform.shape[1], lm.config.n_embd // heads)
    kept = [torch.empty(shape, dtype=dtype, device=tokens.device) for _ in trunk.h]  # keys, values
    responses, logprobs, begin = [], [], 0
    for u in uniform.unbind(1):
        end = begin + tokens.shape[1]
        x = trunk.wte(tokens) + trunk.wpe.weight[begin:end]
        for block, weights, pair in zip(trunk.h, linears, kept, strict=True):
            qkv = (
                _linear(block.ln_1(x).to(dtype), weights[0])
                .view(rows, end - begin, 3, heads, -1)
                .permute(2, 0, 3, 1, 4)
            )
            pair[:, :, :, begin:end] = qkv[1:]
            mixed = scaled_dot_product_attention(qkv[0], *pair[:, :, :, :end], is_causal=begin == 0)
            x = x + _linear(mixed.transpose(1, 2).flatten(2), weights[1])
            x = x + _linear(
                gelu(_linear(block.ln_2(x).to(dtype), weights[2]), approximate="tanh"), weights[3]
            )
        logits = linear(trunk.ln_f(x[:, -1]), lm.lm_head.weight)
        tokens, begin = draw(logits / temperature, u), end
        responses.append(tokens)
        logprobs.append(token_logprobs(logits.unsqueeze(1), tokens, temperature))
    return torch.cat(responses, 1), torch.cat(logprobs, 1)


def _linear(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    return torch.addmm(weights[1], x.flatten(0, 1), weights[0]).view(*x.shape[:2], -1)
