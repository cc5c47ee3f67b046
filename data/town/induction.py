"""Let an untrained model begin as one that can copy.

A story needs the names and things it began with, and a small model finds out late how to look them
up: heads that find the token before, heads that find where the present token stood earlier and pass
on what followed it (Olsson et al. 2022 call the two together an induction head). Here they are
written down, with sinusoids as positions, so that looking back one place is a rotation. The width
is divided among

    POSITION   sinusoids of 16 periods
    TOKEN      which token stands here, a random code
    BEFORE     the code of the token before, in short; head 0 of block 0 writes it
    RARE       how rare the token is
    UNIGRAM    always 1 behind the last layer norm: the output reads how frequent each token is
    COPY       codes of tokens to say next; the output reads them

In block 1 two heads look for places whose BEFORE is the present TOKEN, in block 2 two look for rare
tokens; both write their TOKEN into COPY. All of it is learned on from there. The
perplexity on stories was 216 after 234,000 tokens of training. Without these heads, at much the
same rates, it was 290 after 725,000 (320,000 of them drills alone), and drills, rows in which
copying is all there is to learn, were unlearned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

POSITION, TOKEN, BEFORE = slice(0, 32), slice(32, 96), slice(96, 126)
RARE, UNIGRAM, COPY = 126, 127, slice(128, 192)
WIDTH, HEAD = 192, 32
PERIODS = 2.0 ** torch.linspace(1.3, 8.5, 16)  # in tokens
ONE_BACK, SAME, RAREST = 1.5, 1.0, 1.5  # how sharply heads look
AS_FREQUENT, CODE, SAID = 1.0, 0.3, 1.0  # how loud: frequencies, the output's codes, what is copied


@torch.no_grad()
def write(model: GPT2LMHeadModel, frequencies: Tensor) -> None:
    """Overwrite embeddings, output and attention. frequencies: (V,), share of each token, none 0.

    The model must be 192 wide, with heads of 32 and at least three blocks, its output not tied.
    """
    config = model.config
    if (config.n_embd, config.n_embd // config.n_head) != (WIDTH, HEAD) or config.n_layer < 3:
        raise ValueError("heads that copy are written for a width of 192, heads of 32, 3 blocks")
    torch.manual_seed(5)
    body, output = model.transformer, model.lm_head.weight
    embeddings, positions = body.wte.weight, body.wpe.weight
    embeddings.normal_(0, 0.02)
    embeddings[:, TOKEN].normal_(0, 1)
    rare = -frequencies.log()
    rare = rare - (rare * frequencies).sum()
    embeddings[:, RARE] = rare / (frequencies * rare.square()).sum().sqrt()
    turns = 2 * math.pi * torch.arange(len(positions))[:, None].float() / PERIODS
    positions.zero_()
    positions[:, 0:32:2], positions[:, 1:32:2] = 1.4 * turns.sin(), 1.4 * turns.cos()
    output.normal_(0, 0.02)
    output[:, COPY] = CODE * embeddings[:, TOKEN]
    body.ln_f.weight[UNIGRAM], body.ln_f.bias[UNIGRAM] = 0, 1
    output[:, UNIGRAM] = AS_FREQUENT * (frequencies.log() - frequencies.log().mean())
    for block in body.h:
        block.attn.c_attn.weight.normal_(0, 0.05)
        block.attn.c_proj.weight.zero_()
    _token_before(body.h[0].attn, short := torch.linalg.qr(torch.randn(64, 30))[0])
    _what_followed(body.h[1].attn, short)
    _rare_ones(body.h[2].attn)


def _token_before(attention: torch.nn.Module, short: Tensor) -> None:
    query, key, value = _head(attention, 0)
    for i, period in enumerate(PERIODS.tolist()):
        c, s = math.cos(2 * math.pi / period), math.sin(2 * math.pi / period)
        pair = slice(2 * i, 2 * i + 2)
        query[pair, pair] = ONE_BACK * torch.tensor([[c, s], [-s, c]])  # turned back by one place
        key[pair, pair] = ONE_BACK * torch.eye(2)
    value[TOKEN, :30] = short
    attention.c_proj.weight[:30, BEFORE] = 3 * torch.eye(30)


def _what_followed(attention: torch.nn.Module, short: Tensor) -> None:
    for number in (0, 1):
        query, key, value = _head(attention, number)
        query[TOKEN, :30], key[BEFORE, :30] = SAME * short, SAME * torch.eye(30)
        _copy_half(attention, number, value)


def _rare_ones(attention: torch.nn.Module) -> None:
    for number in (0, 1):
        _, key, value = _head(attention, number)
        key[RARE, 0] = attention.c_attn.bias[HEAD * number] = RAREST
        _copy_half(attention, number, value)


def _copy_half(attention: torch.nn.Module, number: int, value: Tensor) -> None:
    """Pass on one half of the code of the token that is looked at."""
    half = slice(HEAD * number, HEAD * (number + 1))
    value[TOKEN][half] = torch.eye(HEAD)
    attention.c_proj.weight[half, COPY][:, half] = SAID * torch.eye(HEAD)


def _head(attention: torch.nn.Module, number: int) -> list[Tensor]:
    """Clear a head; return views of what makes its queries, keys and values: (192, 32) each."""
    parts = [
        attention.c_attn.weight[:, part * WIDTH + number * HEAD :][:, :HEAD] for part in range(3)
    ]
    for part in parts:
        part.zero_()
    return parts
