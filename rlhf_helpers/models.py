"""Any causal language model as policy (with a value head) and as reward model (one number on top).

Both carry their tokenizer and are thin: the language model inside is transformers' own, so whatever
is saved opens with plain transformers.

    Policy       tokens (B, T) -> hidden (B, T, d) -> logits of the positions you ask for, values
    RewardModel  tokens (B, T) -> one reward per row, read at the last real token: gain * r + bias

For models that are large for their machine: `precision="bf16"` (products in bfloat16, weights and
updates in float32), `checkpointing=True` (activations made again in the backward pass), `lora=16`
(only low-rank additions are trained; needs peft).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    PreTrainedTokenizerBase,
)

from rlhf_helpers.runtime import bf16, families, pretrained, ranks, tokenizers
from rlhf_helpers.runtime.tokenizers import BASE, load_tokenizer
from rlhf_helpers.tensors import positions

__all__ = [
    "BASE", "Policy", "RewardModel", "check_pair", "fingerprint", "load_tokenizer", "tiny_policy",
]  # fmt: skip


class Trunk(nn.Module):
    """What policy and reward model share: a transformers model and how it is computed.

    inner: the transformers model. precision: fp32 or bf16 (products in bfloat16, weights in
    float32). checkpointing: recompute activations in the backward pass. lora: rank of low-rank
    additions to train in place of the weights, drawn from `seed`; 0 trains all weights.
    """

    def __init__(
        self,
        inner: nn.Module,
        precision: str = "fp32",
        checkpointing: bool = False,
        lora: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.tokenizer: Any = None  # set by `load`, or by whoever makes the model
        if precision not in ("fp32", "bf16"):
            raise ValueError(
                f"precision is {precision!r}; choose fp32 (exact) or bf16 (fast where the "
                "processor has it; weights stay in fp32)"
            )
        if lora < 0:
            raise ValueError(f"lora is {lora}: it is a rank, 1 or more, or 0 to train all weights")
        self.precision, self.checkpointing = precision, checkpointing
        pretrained.with_fused_gelu(pretrained.without_dropout(inner))
        if precision == "bf16":
            pretrained.with_float32_attention(inner)
        if lora:
            pretrained.add_lora(inner, lora, seed)
        if checkpointing:
            # its new and its old name
            enable = getattr(
                inner, "activation_checkpointing_enable", inner.gradient_checkpointing_enable
            )
            enable({"use_reentrant": False})
        # the most tokens it reads
        self.context: int | None = getattr(
            inner.config.get_text_config(), "max_position_embeddings", None
        )
        self.takes_positions = (
            "position_ids" in inspect.signature(inner.base_model.forward).parameters
        )

    def packs(self, width: int) -> bool:
        """Say whether answers can share a row with their query, `width` tokens for one of them."""
        return self.takes_positions and pretrained.takes_any_mask(_inner(self), width)

    def autocast(self) -> torch.autocast:
        """Compute products in bfloat16 inside this context, if the precision says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def run_trunk(
        self,
        inner: nn.Module,
        tokens: Tensor,
        mask: Tensor,
        cache: Any = None,
        position_ids: Tensor | None = None,
        every_layer: bool = False,
    ) -> Any:
        """Run the transformer without its head; returns (B, T, d).

        tokens (B, T); mask (B, P + T), with P tokens already in `cache`. Where `position_ids`
        (B, T) are given, the mask may also say for each token which it attends to: (B, 1, T, T).
        `every_layer` returns a tuple of such states: the embeddings' and then those of each layer.
        """
        if position_ids is None:
            position_ids = positions(mask)[:, -tokens.shape[1] :]
        extra = {"position_ids": position_ids} if self.takes_positions else {}
        if self.checkpointing:
            # transformers checkpoints in train mode only, and cannot use a cache there
            inner.train(torch.is_grad_enabled())
        with self.autocast():
            out = inner.base_model(
                input_ids=tokens,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=cache is not None,
                output_hidden_states=every_layer,
                **extra,
            )
        return out.hidden_states if every_layer else out.last_hidden_state


class Policy(Trunk):
    """A language model that also guesses how well its answer will be rated.

    lm: any transformers causal LM. value_head: (d) -> 1, weight and bias zero at the start, so the
    first values are 0 (paper's code).
    """

    def __init__(
        self,
        lm: nn.Module,
        precision: str = "fp32",
        checkpointing: bool = False,
        lora: int = 0,
        seed: int = 0,
    ):
        super().__init__(lm, precision, checkpointing, lora, seed)
        self.lm = lm
        self.value_head = nn.Linear(lm.get_output_embeddings().weight.shape[1], 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def device(self) -> torch.device:
        return self.value_head.weight.device

    def hidden(self, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Run the trunk; returns (B, T, d).

        tokens (B, T) long; mask (B, P + T) bool, with P tokens already in `cache`.
        """
        return self.run_trunk(self.lm, tokens, mask, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the LM head: (..., d) to (..., V).

        Only ever called on response positions: (B, T, V) would not fit. In float32 at every
        precision: GPT-2's logits lie near -100, where bfloat16 has steps of half a nat.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            return self.lm.get_output_embeddings()(hidden.float())

    def values(self, hidden: Tensor) -> Tensor:
        """Apply the value head: (..., d) to (...), float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.value_head(hidden.float()).squeeze(-1)

    def frozen_copy(self) -> Policy:
        """Copy the policy as the reference: same weights, no gradients, never updated.

        The tokenizer, and weights that LoRA does not train, are shared.
        """
        shared = {id(p): p for p in self.parameters() if not p.requires_grad}
        shared[id(self.tokenizer)] = self.tokenizer
        reference = copy.deepcopy(self, shared)
        return reference.requires_grad_(False)

    def save(self, folder: Path | str) -> None:
        """Write `folder` in transformers' format, LoRA merged in, with tokenizer and value head."""
        self.lm.save_pretrained(folder, state_dict=pretrained.merged(self.lm))
        tokenizers.save(self.tokenizer, folder, padding_side="left")
        save_file(
            {k: v.contiguous() for k, v in self.value_head.state_dict().items()},
            Path(folder) / "value_head.safetensors",
        )

    @classmethod
    def load(
        cls, source: Path | str = BASE, precision: str = "fp32", checkpointing: bool = False,
        lora: int = 0, seed: int = 0
    ) -> Policy:  # fmt: skip
        """Load a policy with its tokenizer from a folder or by a Hub name.

        The value head is fresh where none was saved; LoRA begins from `seed`; precision "auto"
        takes bf16 where a measurement finds it faster (`runtime.bf16`). Raises FileNotFoundError
        that says what to do when nothing is there, ValueError if it is no causal language model
        that we can read.
        """
        lm = pretrained.load(AutoModelForCausalLM, source)
        families.check(cls(lm))
        policy = cls(lm, bf16.choose(precision), checkpointing, lora, seed)
        policy.tokenizer = tokenizers.find(source, lm)
        if policy.tokenizer is not None:  # policies and reward models made from it remember
            lm.config.tokenizer_fingerprint = tokenizers.fingerprint(policy.tokenizer)
        head = Path(source) / "value_head.safetensors"
        if head.exists():
            policy.value_head.load_state_dict(pretrained.read_weights(head))
        return policy


class RewardModel(Trunk):
    """A language model's trunk with one number on top: how good is this text? (paper, section 2)

    classifier: transformers' sequence classifier with one label; its head starts from N(0, 1 /
    sqrt(d + 1)), without bias, which the softmax over options could not see. `gain` and `bias` are
    set by `reward.normalize`, never trained.
    """

    gain: Tensor
    bias: Tensor

    def __init__(
        self,
        classifier: nn.Module,
        precision: str = "fp32",
        checkpointing: bool = False,
        lora: int = 0,
        seed: int = 0,
    ):
        super().__init__(classifier, precision, checkpointing, lora, seed)
        self.classifier = classifier
        self.register_buffer(
            "gain", torch.tensor(float(getattr(classifier.config, "reward_gain", 1.0)))
        )
        self.register_buffer(
            "bias", torch.tensor(float(getattr(classifier.config, "reward_bias", 0.0)))
        )

    @property
    def device(self) -> torch.device:
        return self.gain.device

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Score whole texts: tokens, mask (B, T) to (B,) float32. Pads may stand on either side."""
        hidden = self.run_trunk(self.classifier, tokens, mask)
        # (B,) column of the last real token
        last = mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)
        return self.read(hidden, last.unsqueeze(1)).squeeze(1)

    def read(self, hidden: Tensor, columns: Tensor) -> Tensor:
        """Read rewards off hidden states (B, T, d) at `columns` (B, K); returns (B, K) float32."""
        rows = torch.arange(len(hidden), device=hidden.device).unsqueeze(1)
        with torch.autocast(hidden.device.type, enabled=False):
            raw = self.classifier.score(hidden[rows, columns].float()).squeeze(-1)
        return self.gain * raw + self.bias

    @classmethod
    def from_policy(cls, policy: Policy, seed: int = 0, lora: int = 0) -> RewardModel:
        """Start a reward model from the language model's trunk and tokenizer.

        Its head and LoRA are drawn from `seed`; precision is the policy's.
        """
        config = copy.deepcopy(policy.lm.config)
        config.num_labels, config.dtype = 1, torch.float32
        # plain transformers needs one to find the last token of a batch
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = config.eos_token_id if isinstance(config.eos_token_id, int) else 0
        try:
            classifier = AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            raise ValueError(
                "transformers has no sequence classifier, which a reward model is, of the family "
                f"{config.model_type!r}: choose another"
            ) from error
        classifier.base_model.load_state_dict(pretrained.merged(policy.lm.base_model))
        width = classifier.score.in_features
        weight = (
            torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
            / (width + 1) ** 0.5
        )
        classifier.score.weight.data.copy_(weight)
        model = cls(classifier.float(), policy.precision, policy.checkpointing, lora, seed)
        model.tokenizer = policy.tokenizer
        return model.to(policy.device)

    def save(self, folder: Path | str) -> None:
        """Write `folder` in transformers' format; gain and bias go into config.json.

        The tokenizer beside it pads on the right: plain transformers reads the reward at the last
        token that is no pad, and counts positions from the left, pads included.
        """
        config = self.classifier.config
        config.reward_gain, config.reward_bias = self.gain.item(), self.bias.item()
        if self.tokenizer is not None:
            config.pad_token_id = self.tokenizer.pad_token_id
        self.classifier.save_pretrained(folder, state_dict=pretrained.merged(self.classifier))
        tokenizers.save(self.tokenizer, folder, padding_side="right")

    @classmethod
    def load(
        cls, source: Path | str, precision: str = "fp32", checkpointing: bool = False
    ) -> RewardModel:
        """Load a saved reward model with its tokenizer.

        Raises FileNotFoundError that says what to do when nothing is there, ValueError if its head
        gives more than one number.
        """
        classifier = pretrained.load(AutoModelForSequenceClassification, source)
        if classifier.config.num_labels != 1 or not hasattr(classifier, "score"):
            raise ValueError(
                f"{source} holds no reward model: its head gives {classifier.config.num_labels} "
                "numbers, one is needed"
            )
        model = cls(classifier, bf16.choose(precision), checkpointing)
        model.tokenizer = tokenizers.find(source, classifier)
        return model


def _inner(model: Policy | RewardModel) -> nn.Module:
    return model.lm if isinstance(model, Policy) else model.classifier


def check_pair(model: Policy | RewardModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless the tokenizer is the one that the model's base came with."""
    tokenizers.check(_inner(model), tokenizer)


def fingerprint(model: Policy | RewardModel) -> str:
    """Sum a model up in characters that change with its shapes, weights and precision.

    Do two processes hold the same model? A reward model's gain and bias are left out: where they
    were just computed, their last digits depend on the micro-batch.
    """
    inner = _inner(model)
    heads = (
        f"{name} {tuple(w.shape)} {ranks.full_tensor(w).flatten()[:3].tolist()}"
        for name, w in model.named_parameters()
    )
    digest = hashlib.sha256(" ".join(heads).encode()).hexdigest()[:16]
    return f"{Path(inner.config.name_or_path).name or 'a model'} {digest} in {model.precision}"


def tiny_policy(
    vocabulary: int = 16,
    width: int = 16,
    layers: int = 1,
    heads: int = 2,
    context: int = 32,
    seed: int = 0,
) -> Policy:
    """Make a policy of a few thousand random weights, for tests and toy problems."""
    from transformers import GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary, n_positions=context, n_embd=width, n_layer=layers, n_head=heads,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, activation_function="gelu_pytorch_tanh",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Policy(GPT2LMHeadModel(config))
