"""TRL's trainers on the same models, the same token ids and the same numbers of rows and passes.

PPO left TRL after 1.12; with a later one only the reward trainer is compared. To have both: `pip
install --no-deps --target build/trl trl==1.12.0`, then `PYTHONPATH=build/trl python
benchmarks/speed.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback


def version() -> str | None:
    """Say which TRL there is, None if there is none."""
    return importlib.import_module("trl").__version__ if importlib.util.find_spec("trl") else None


def has_ppo() -> bool:
    """Say whether it still has PPO; then that is imported, so that no contender pays for it."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    found = version() is not None and importlib.util.find_spec("trl.experimental.ppo") is not None
    if found:
        importlib.import_module("trl.experimental.ppo.ppo_trainer")
    return found


def _settings(device: torch.device, **more: Any) -> dict[str, Any]:
    """Nothing saved, nothing reported, no checkpointing of activations, float32: the same work as
    ours, no more."""
    return dict(
        output_dir=tempfile.gettempdir() + "/trl-benchmark", save_strategy="no", report_to=[],
        disable_tqdm=True, bf16=False, gradient_checkpointing=False, lr_scheduler_type="constant",
        use_cpu=device.type == "cpu", **more,
    )  # fmt: skip


def _quiet(work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return work()

    return run


def generation(
    lm: PreTrainedModel, queries: Tensor, batch: int, response: int, temperature: float, pad: int
) -> Callable[[], object]:
    """Sample as TRL's PPO trainer does: `generate` that keeps the scores of every step."""
    trainer = importlib.import_module("trl.experimental.ppo.ppo_trainer")
    lm.generation_config.eos_token_id = None
    settings = GenerationConfig(
        max_new_tokens=response, temperature=temperature + 1e-7, top_k=0, top_p=1.0, do_sample=True
    )
    return lambda: trainer.batch_generation(lm, queries, batch, pad, settings)


def reward(
    classifier: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Tensor,
    choices: Tensor, batch: int, lr: float
) -> Callable[[], object]:  # fmt: skip
    """One pass of RewardTrainer over pairs. tokens (N, 2, T), choices (N,)."""
    trl, datasets = importlib.import_module("trl"), importlib.import_module("datasets")
    rows = torch.arange(len(tokens))
    data = datasets.Dataset.from_dict(
        {
            "chosen_ids": tokens[rows, choices].tolist(),
            "rejected_ids": tokens[rows, 1 - choices].tolist(),
        }
    )
    config = trl.RewardConfig(
        **_settings(
            classifier.device,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=lr,
        ),
        max_length=None,
    )
    trainer = trl.RewardTrainer(classifier, config, train_dataset=data, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return _quiet(trainer.train)


def ppo(
    lm: PreTrainedModel, reference: PreTrainedModel, classifier: PreTrainedModel,
    value_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, queries: Tensor, batch: int,
    response: int, temperature: float, epochs: int, lr: float,
) -> Callable[[], object]:  # fmt: skip
    """One pass of PPOTrainer over the queries (N, Q). TRL's value model is a trunk of its own, so
    there is more to train."""
    module, datasets = (
        importlib.import_module("trl.experimental.ppo"),
        importlib.import_module("datasets"),
    )
    config = module.PPOConfig(
        **_settings(
            lm.device,
            per_device_train_batch_size=batch,
            learning_rate=lr,
            gradient_accumulation_steps=1,
        ),
        num_mini_batches=1,
        total_episodes=len(queries),
        response_length=response,
        temperature=temperature,
        num_ppo_epochs=epochs,
        local_rollout_forward_batch_size=batch,
        num_sample_generations=0,
        whiten_rewards=True,
        kl_coef=0.1,
    )
    data = datasets.Dataset.from_dict({"input_ids": queries.tolist()})
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = module.PPOTrainer(
            config, tokenizer, lm, reference, classifier, data, value_model,
            eval_dataset=data.select(range(1))
        )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return _quiet(trainer.train)
