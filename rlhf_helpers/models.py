"""Floor 1: any causal language model with a value head (policy), the same trunk with one number on top (reward model).

Both are thin: the language model inside is transformers' own, so whatever is saved opens with plain transformers.

    Policy       tokens (B, T) -> hidden (B, T, d) -> logits of the positions you ask for, values (paper, section 2.2)
    RewardModel  tokens (B, T) -> one reward per row, read at the last real token: gain * r + bias
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GPT2Config, PreTrainedTokenizerBase

BUNDLED = Path(__file__).resolve().parent.parent / "data"
BASE = BUNDLED / "base"
HUB_OPTIONS: dict[str, Any] = {"trust_remote_code": False, "dtype": torch.float32}


def positions(mask: Tensor) -> Tensor:
    """Count real tokens from the left, so that padding does not move anybody. Shapes: (B, T) bool to (B, T) long.

    Source: the released code's `positions_for` (exclusive cumulative sum of the mask).
    """
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


class Policy(nn.Module):
    """A language model that also guesses how well its answer will be rated.

    lm: any transformers causal LM. value_head: (d) -> 1, weight and bias zero at the start, so the first values are 0 (paper's code).
    """

    def __init__(self, lm: nn.Module):
        super().__init__()
        self.lm = _without_dropout(lm)
        self.value_head = nn.Linear(lm.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def device(self) -> torch.device:
        return self.value_head.weight.device

    def hidden(self, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Run the trunk. tokens (B, T) long; mask (B, P + T) bool, with the P tokens already in `cache`; returns (B, T, d)."""
        return self.lm.base_model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions(mask)[:, -tokens.shape[1] :],
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the LM head: (..., d) to (..., V). Only ever called on response positions: (B, T, V) would not fit."""
        return self.lm.get_output_embeddings()(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        """Apply the value head: (..., d) to (...), float32."""
        return self.value_head(hidden).squeeze(-1).float()

    def frozen_copy(self) -> Policy:
        """Copy the policy as the reference: same weights, no gradients, never updated."""
        reference = copy.deepcopy(self)
        return reference.requires_grad_(False)

    def save(self, folder: Path | str) -> None:
        """Write `folder` in transformers' format (safetensors), the value head beside it."""
        from safetensors.torch import save_file

        self.lm.save_pretrained(folder)
        save_file({k: v.contiguous() for k, v in self.value_head.state_dict().items()}, Path(folder) / "value_head.safetensors")

    @classmethod
    def load(cls, source: Path | str = BASE) -> Policy:
        """Load a policy from a folder or a Hub name; a fresh value head where none was saved.

        Raises FileNotFoundError with the way out when nothing is there.
        """
        from safetensors.torch import load_file

        policy = cls(AutoModelForCausalLM.from_pretrained(_existing(source), **HUB_OPTIONS))
        head = Path(source) / "value_head.safetensors"
        if head.exists():
            policy.value_head.load_state_dict(load_file(head))
        return policy


class RewardModel(nn.Module):
    """A language model's trunk with one number on top: how good is this text? (paper, section 2)

    classifier: transformers' sequence classifier with one label; its head starts from N(0, 1 / sqrt(d + 1)), without bias, which the
    softmax over options could not see. `gain` and `bias` are set by `reward.normalize`, never trained.
    """

    gain: Tensor
    bias: Tensor

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = _without_dropout(classifier)
        self.register_buffer("gain", torch.tensor(float(getattr(classifier.config, "reward_gain", 1.0))))
        self.register_buffer("bias", torch.tensor(float(getattr(classifier.config, "reward_bias", 0.0))))

    @property
    def device(self) -> torch.device:
        return self.gain.device

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Score whole texts: tokens, mask (B, T); pads may stand on either side; returns (B,) float32."""
        hidden = self.classifier.base_model(
            input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False
        ).last_hidden_state
        last = mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)  # (B,) column of the last real token
        raw = self.classifier.score(hidden[torch.arange(len(tokens), device=tokens.device), last]).squeeze(-1).float()
        return self.gain * raw + self.bias

    @classmethod
    def from_policy(cls, policy: Policy, seed: int = 0) -> RewardModel:
        """Start a reward model from the language model's trunk, with a fresh head drawn from `seed`."""
        config = copy.deepcopy(policy.lm.config)
        config.num_labels = 1
        classifier = AutoModelForSequenceClassification.from_config(config)
        classifier.base_model.load_state_dict(policy.lm.base_model.state_dict())
        width = classifier.score.in_features
        weight = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) / (width + 1) ** 0.5
        classifier.score.weight.data.copy_(weight)
        return cls(classifier.float()).to(policy.device)

    def save(self, folder: Path | str) -> None:
        """Write `folder` in transformers' format; gain and bias go into config.json."""
        self.classifier.config.reward_gain = self.gain.item()
        self.classifier.config.reward_bias = self.bias.item()
        self.classifier.save_pretrained(folder)

    @classmethod
    def load(cls, source: Path | str) -> RewardModel:
        """Load a saved reward model; raises FileNotFoundError with the way out when nothing is there."""
        return cls(AutoModelForSequenceClassification.from_pretrained(_existing(source), **HUB_OPTIONS))


def load_tokenizer(source: Path | str = BASE) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the left; one without a pad token pads with its end token (pads are masked anyway)."""
    tokenizer = AutoTokenizer.from_pretrained(_existing(source), trust_remote_code=False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_pair(policy: Policy, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if the tokenizer can produce ids that the model has no embedding for."""
    rows = policy.lm.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has {len(tokenizer)} tokens but the model only {rows}: "
            "they do not belong together; load both from the same folder or Hub name"
        )


def tiny_policy(vocabulary: int = 16, width: int = 16, layers: int = 1, heads: int = 2, context: int = 32, seed: int = 0) -> Policy:
    """Make a policy of a few thousand random weights, for tests and for toy problems that can be enumerated."""
    from transformers import GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary, n_positions=context, n_embd=width, n_layer=layers, n_head=heads,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, activation_function="gelu_pytorch_tanh",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Policy(GPT2LMHeadModel(config))


def _without_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout to 0, so that train and eval mode are the same thing (the paper never drops out)."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, rate in list(vars(module).items()):  # families that keep the rate as a number: Llama, OPT, BLOOM
            if "drop" in name and isinstance(rate, float):
                setattr(module, name, 0.0)
    return model


def _existing(source: Path | str) -> str:
    """Return `source` if it is a model folder or looks like a Hub name; say what to do otherwise."""
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").exists() and not (path / "tokenizer_config.json").exists():
            raise FileNotFoundError(f"{path} holds no model (no config.json): was training stopped before it was saved?")
        return str(path)
    looks_local = path.is_absolute() or str(source).startswith(".") or len(path.parts) > 2
    if looks_local:
        raise FileNotFoundError(f"no model folder at {path}: train one first, or pass a Hub name such as 'openai-community/gpt2'")
    return str(source)
