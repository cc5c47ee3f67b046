"""Tokenizers: found beside their model, checked against it, saved with it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf_helpers.runtime import pretrained

BASE = Path(__file__).resolve().parents[2] / "data" / "base"  # the bundled model


def load_tokenizer(source: Path | str = BASE) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the left.

    One without a pad token pads with its end token, or with token 0 (pads are masked anyway).
    """
    tokenizer = pretrained.load(AutoTokenizer, source, {"trust_remote_code": False})
    if len(tokenizer) < 2:
        raise FileNotFoundError(
            f"there is no tokenizer in {source}: save it beside the model "
            "(tokenizer.save_pretrained) or copy it"
        )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def find(source: Path | str, model: nn.Module) -> Any:
    """Load the tokenizer beside a model, or the bundled one if the model was made with it.

    Returns None where neither is found; raises ValueError if the one beside it is of another model.
    """
    folder = Path(source)
    beside = [f for kind in ("tokenizer*", "vocab*", "*.model") for f in folder.glob(kind)]
    if beside or not folder.is_dir():
        with suppress(FileNotFoundError):  # some models on the Hub come without one
            tokenizer = load_tokenizer(source)
            check(model, tokenizer)
            return tokenizer
    made_with = getattr(model.config, "tokenizer_fingerprint", None)
    bundled = load_tokenizer() if made_with is not None and BASE.is_dir() else None
    return bundled if bundled and fingerprint(bundled) == made_with else None


def save(tokenizer: Any, folder: Path | str, padding_side: str) -> None:
    """Write a tokenizer of transformers beside its model; others, and none, are left out."""
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        before, tokenizer.padding_side = tokenizer.padding_side, padding_side
        tokenizer.save_pretrained(folder)
        tokenizer.padding_side = before


@lru_cache(maxsize=8)
def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Sum a tokenizer up in a few characters: which token has which number."""
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def check(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless the tokenizer is the one that the model's base came with."""
    rows = model.get_input_embeddings().num_embeddings
    made_with = getattr(model.config, "tokenizer_fingerprint", None)
    way_out = "they do not belong together; load both from the same folder or Hub name"
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has {len(tokenizer)} tokens but the model "
            f"only {rows}: {way_out}"
        )
    if made_with is not None and made_with != fingerprint(tokenizer):
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} is not the one of "
            f"{model.config.name_or_path or 'this model'!r}, whose base model "
            f"came with another: {way_out}, and move policies and reward models of an earlier base "
            "model out of your runs folder"
        )
