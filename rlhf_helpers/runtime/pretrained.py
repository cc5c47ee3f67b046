"""Models from a folder or the Hub, without dropout; LoRA put in, and merged again for saving.

Weights are read from safetensors only, and code from the Hub is never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

LINEAR = (nn.Linear, Conv1D)  # GPT-2 calls its linear layers otherwise
HUB_OPTIONS: dict[str, Any] = {
    "trust_remote_code": False, "dtype": torch.float32, "use_safetensors": True,
    "output_loading_info": True,
}  # fmt: skip


def without_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout to 0, so that train and eval mode are the same (as in the paper)."""
    config = model.config.get_text_config()
    # families that read the rate there in every pass: Falcon
    for name, rate in config.to_dict().items():
        if "drop" in name and isinstance(rate, float):
            setattr(config, name, 0.0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # families that keep the rate as a number: Llama, OPT, BLOOM
        for name, rate in list(vars(module).items()):
            if "drop" in name and isinstance(rate, float):
                setattr(module, name, 0.0)
    return model


def with_fused_gelu(model: nn.Module) -> nn.Module:
    """Replace GPT-2's GELU, made of eight operations, by torch's: the same, in less memory."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, ACT2FN["gelu_pytorch_tanh"])
    return model


def float32_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **options: Any,
) -> tuple:
    """Attend as `sdpa` does, but on a CPU always in float32.

    Inside an autocast to bfloat16 its gradient would lose more than the rest gains.
    """
    if query.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return sdpa_attention_forward(module, query, key, value, mask, **options)
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), mask, **options
        )


SDPA = ("sdpa", "sdpa_in_float32")  # torch's attention, in transformers' name and in ours
AttentionInterface.register(SDPA[1], float32_attention)
AttentionMaskInterface.register(SDPA[1], sdpa_mask)


def with_float32_attention(model: nn.Module) -> nn.Module:
    """Let a model that attends by torch's `scaled_dot_product_attention` use `float32_attention`.

    Saved models do not remember it. Families that transformers has not opened to other ways of
    attending (Falcon) stay as they are.
    """
    if model.config._attn_implementation == SDPA[0]:
        with _without_report():
            model.set_attn_implementation(SDPA[1])
    return model


def takes_any_mask(model: nn.Module, length: int) -> bool:
    """Say whether a mask (B, 1, T, T) alone decides which of `length` tokens see each other:
    torch's attention, no window, no ALiBi."""
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    known = set(getattr(config, "layer_types", None) or ()) <= {
        "full_attention",
        "sliding_attention",
        "chunked_attention",
    }
    by_sdpa = model.config._attn_implementation in SDPA and not getattr(config, "alibi", False)
    return by_sdpa and known and all(window is None or window >= length for window in windows)


def add_lora(model: nn.Module, rank: int, seed: int = 0) -> None:
    """Freeze all weights and add trainable low-rank products to every linear layer of the trunk.

    In place; the products have rank `rank` and are drawn from `seed`. Raises ImportError without
    peft.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            "peft is not installed: pip install peft, or leave lora=0 and train all weights"
        ) from error
    layers = [name for name, m in model.base_model.named_modules() if isinstance(m, LINEAR)]
    turned = any(isinstance(m, Conv1D) for m in model.modules())
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=layers, fan_in_fan_out=turned
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model.base_model)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name or name == "score.weight")


def merged(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights under transformers' own names, with LoRA's products added in."""
    state = {
        name.replace(".base_layer.", "."): w
        for name, w in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            state[f"{name}.weight"] = module.base_layer.weight + module.get_delta_weight("default")
    return {name: w.detach() for name, w in state.items()}


def load(kind: Any, source: Path | str, options: dict[str, Any] = HUB_OPTIONS) -> Any:
    """Load a model or tokenizer with one of transformers' Auto classes.

    Its errors are raised again in plain words that say what to do.
    """
    place = existing(source)
    try:
        with _without_report():
            found = kind.from_pretrained(place, **options)
        return _whole(*found, source) if isinstance(found, tuple) else found
    except SafetensorError as error:
        raise _damaged(place, error) from error
    except ValueError as error:
        if not is_unknown(error):
            raise
        raise not_causal(source) from error
    except OSError as error:
        if Path(source).is_dir():
            raise OSError(
                f"{source} could not be read: {error}. Weights must be there as safetensors"
            ) from error
        raise FileNotFoundError(
            f"{source!r} is not on this machine and could not be fetched from the Hub. With a "
            f"network: `hf download {source} --local-dir "
            f"models/{Path(source).name}`, copy that folder here and pass it instead of the name"
        ) from error


def is_unknown(error: ValueError) -> bool:
    """Say whether an error means that transformers knows no causal model of this kind."""
    return "nrecognized" in str(error)


def not_causal(source: Path | str) -> ValueError:
    """Make the error for a model that transformers does not know as a causal language model."""
    return ValueError(
        f"{source} holds no causal language model that transformers knows: choose one that writes "
        "from left to right, such as "
        "openai-community/gpt2"
    )


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from printing its table of missing weights: `_whole` says what it means."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the weights of one file; raises OSError that names it if they are damaged."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise _damaged(file, error) from error


def _whole(model: nn.Module, keys: dict[str, Any], source: Path | str) -> nn.Module:
    """Return the model, or raise ValueError if weights are missing or of another kind.

    transformers would draw missing weights at random.
    """
    missing = ", ".join(sorted(keys["missing_keys"])[:3])
    # a head tied to the embeddings is never missing
    if not missing and "score.weight" not in keys["unexpected_keys"]:
        return model
    why = (
        f"{missing} would have to be drawn at random"
        if missing
        else "its head, score.weight, gives rewards and no words"
    )
    raise ValueError(
        f"{source} holds another kind of model: {why}. Load a language model with Policy.load, and "
        "a reward model with RewardModel.load"
    )


def _damaged(place: Path | str, error: SafetensorError) -> OSError:
    """Find the file that cannot be read, in a folder, and say what to do."""
    for file in sorted(Path(place).glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                continue
        except SafetensorError:
            place = file
            break
    return OSError(
        f"{place} is damaged or was cut off ({error}): copy or download it again, or save the "
        "model anew"
    )


def existing(source: Path | str) -> str:
    """Return `source` if it is a model folder or looks like a Hub name; raise otherwise."""
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").exists() and not (path / "tokenizer_config.json").exists():
            raise FileNotFoundError(
                f"{path} holds no model (no config.json): was training stopped before it was saved?"
            )
        return str(path)
    if path.is_file():
        raise FileNotFoundError(
            f"{path} is a file: name the folder that holds the model (config.json, "
            "model.safetensors, tokenizer.json)"
        )
    looks_local = (
        isinstance(source, Path)
        or path.is_absolute()
        or str(source).startswith(".")
        or len(path.parts) > 2
    )
    if looks_local:
        raise FileNotFoundError(
            f"no model folder at {path}: train one first, or pass a Hub name such as "
            "'openai-community/gpt2'"
        )
    return str(source)
