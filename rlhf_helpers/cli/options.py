"""The options of the command line: a dataclass per command, with the help as its comments.

The configs inside are those of the notebooks, and `--task` with `--preset` chooses their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from rlhf_helpers.dpo import DPOConfig
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.reward import RewardConfig


@dataclass(frozen=True)
class Setting:
    """What every command that meets a model needs to know."""

    # the language model: "bundled", a folder, or a name on the Hub such as openai-community/gpt2
    model: str = "bundled"
    task: Literal["sentiment", "descriptiveness", "tldr", "cnndm"] = "sentiment"  # what is asked
    # whose lengths and numbers; the last two need the paper's texts
    preset: Literal["bundled", "released", "paper"] = "bundled"
    # a folder with a copy of the texts, where there is no network; docs/launch.md says how it is
    # laid out
    data_dir: Path | None = None
    # another repository on the Hub with the paper's texts, if the usual one has gone
    texts: str | None = None
    seed: int = 0  # the same seed gives the same result
    device: str | None = None  # cpu, cuda, cuda:1; by default a GPU if there is one


@dataclass(frozen=True)
class Hardware(Setting):
    """How training uses the machine: the result stays the same, except with lora and bf16."""

    # bf16 is fast on a GPU; weights and updates stay in fp32; auto measures which is faster
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    # make activations again in the backward pass: less memory, a third more time
    checkpointing: bool = False
    # rank of low-rank additions, trained in place of the weights; 0 trains all weights (needs peft)
    lora: int = 0
    # rows computed at a time; by default the whole batch (or this GPU's share of it)
    micro_batch: int | None = None


@dataclass(frozen=True)
class Sample(Setting):
    """Write several continuations of prompts, show them, and put them into a store to be labelled.

    For instance: `python -m rlhf_helpers sample --count 40 --store runs/labels.db`
    """

    count: int = 8  # prompts
    options: int = 4  # continuations of each
    split: str = "train"  # of the texts
    # a label store (made if missing); without one the samples are only shown
    store: Path | None = None


@dataclass(frozen=True)
class LabelCommand:
    """Choose the best continuation, by typing 1 to 4 here or with the card in JupyterLab.

    Every answer is saved at once.

    For instance: `python -m rlhf_helpers label --store runs/labels.db --labeler ada --card`
    """

    store: Path  # the label store that `sample` filled
    task: str | None = None  # which of its tasks; needed if there are several
    labeler: str | None = None  # a name or a pseudonym; without one, that of your notebooks
    card: bool = False  # open the card in JupyterLab, on this machine only


@dataclass(frozen=True)
class FitReward(Hardware):
    """Fit a reward model on labels and normalise it on the language model's own samples.

    For instance: `python -m rlhf_helpers fit-reward --labels runs/labels.db --out runs/reward`
    """

    # folder of the run: metrics, checkpoint, and the model in model/
    out: Path = Path("runs/reward")
    # a store (.db), a file (see --format), "recorded" (bundled, simulated) or "released" (the
    # paper's)
    labels: str = "recorded"
    format: Literal["openai", "pairs", "pairwise", "csv"] = "csv"  # of a file
    # leave out records of a file that are faulty or too long for the model, and say how many
    skip_faulty: bool = False
    held_out: float = 0.1  # share of the queries kept for the accuracy, chosen by their hash
    config: RewardConfig = field(default_factory=RewardConfig)
    normalize_samples: int = 512  # prompts behind gain and bias

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(
                f"held_out is {self.held_out:g}: it is a share, from 0 to less than 1, and the "
                "model learns from the rest"
            )


@dataclass(frozen=True)
class Tune(Hardware):
    """Fine-tune the language model against a reward model, or on labels, or collect them meanwhile.

    PPO, RLOO and GRPO maximise a reward model; DPO fits the labels themselves.

    With --rounds, comparisons of the policy as it is now are labelled while it trains, and each
    round trains a reward model on all labels so far (the paper's summaries: 20 rounds). A run that
    was stopped, or that waits for people's labels, continues with the same command.

    For instance: `python -m rlhf_helpers tune --reward runs/reward --out runs/tuned --ppo.episodes
    6400`
    """

    method: Literal["ppo", "rloo", "grpo", "dpo"] = "ppo"
    reward: Path = Path("runs/reward")  # what `fit-reward` wrote; refused with --rounds and DPO
    # folder of the run: metrics, checkpoint, and the model in model/
    out: Path = Path("runs/tuned")
    rounds: int | None = None  # reward models trained while the policy trains
    initial_labels: int | None = None  # before training begins; by default the same in each round
    total_labels: int | None = None  # by default as many as the preset has
    # who labels: "simulated", "everybody" who answers in --store, or one name that answers there
    labeler: str = "simulated"
    store: Path = Path("runs/labels.db")  # where people find the questions (made if missing)
    # of each round's reward model; like the four options above it is refused without --rounds
    fit: RewardConfig = field(default_factory=RewardConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)  # of RLOO and GRPO, too; beta is `kl_coef`
    # of DPO alone, as are the labels and their format, which are those of `fit-reward`
    dpo: DPOConfig = field(default_factory=DPOConfig)
    labels: str = "recorded"
    format: Literal["openai", "pairs", "pairwise", "csv"] = "csv"
    skip_faulty: bool = False
    # pay each token for what it adds to the score, not the last for all; of PPO alone
    each_token: bool = True
    prompts: int = 2_000  # in the pool
    checkpoint_every: int = 25  # steps
    # spread the weights over all GPUs (FSDP), where one copy on each does not fit
    sharded: bool = False
    tensorboard: bool = False  # write the numbers for TensorBoard too

    def __post_init__(self) -> None:
        if self.rounds is not None and self.sharded:
            raise ValueError("--rounds trains whole reward models: leave --sharded out")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}: give 1 or more, or leave it out")
        if self.rounds is not None and self.method != "ppo":
            raise ValueError(f"--rounds tunes with PPO: leave --method {self.method} out")
        if self.method in ("rloo", "grpo") and self.ppo.answers < 2:
            raise ValueError(
                f"{self.method} judges answers to a prompt by each other: set --ppo.answers to 2 "
                "or more"
            )
        if self.method == "dpo" and self.sharded:
            raise ValueError("DPO trains whole models: leave --sharded out")
        for name, (without, remedy) in self._unread().items():  # by this way of tuning
            if getattr(self, name) != getattr(Tune, name, None):
                raise ValueError(f"--{name.replace('_', '-')} is not used {without}: {remedy}")

    def _unread(self) -> dict[str, tuple[str, str]]:
        """Name the options that would not be read, with what to do instead."""
        asking = ("initial_labels", "total_labels", "labeler", "store")
        unread = {}
        if self.rounds is None:
            unread |= dict.fromkeys(asking, ("without --rounds", "add --rounds"))
        else:
            own = "each round trains its own reward model: leave it out"
            unread |= {"reward": ("with --rounds", own)}
        if self.method == "dpo":
            unread |= {"reward": ("by DPO", "it fits --labels")}
        else:
            without = ("without --method dpo", "labels come in by `fit-reward`")
            unread |= dict.fromkeys(("labels", "format", "skip_faulty"), without)
        return unread


@dataclass(frozen=True)
class Judge(Setting):
    """Compare two models blind, and give a win rate with its 95 % interval.

    For instance: `python -m rlhf_helpers judge --tuned runs/tuned --count 64 --by me`
    """

    tuned: Path = Path("runs/tuned")  # judged against --model
    count: int = 64  # pairs, from prompts that training has not seen
    by: str = "simulated"  # "simulated", or your name to be asked here
    store: Path = Path("runs/judging.db")  # keeps your answers


@dataclass(frozen=True)
class SummarizeRun:
    """Show what a run was and how its numbers moved.

    For instance: `python -m rlhf_helpers summarize-run runs/tuned`
    """

    folder: tyro.conf.Positional[Path]  # of the run


@dataclass(frozen=True)
class MeasureCopying:
    """Measure how much of summaries is copied from their sources.

    For instance: `python -m rlhf_helpers measure-copying summaries.jsonl`
    """

    # JSON lines, or a .csv, with the columns source and summary
    file: tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Export:
    """Write the labels of a store for other programs.

    For instance: `python -m rlhf_helpers export --store runs/labels.db --format pairs --out
    pairs.jsonl`
    """

    store: Path  # the label store
    out: Path  # a file; for `dataset` a folder
    # `store` keeps all; `pairwise`: two options
    format: Literal["openai", "pairs", "pairwise", "csv", "dataset", "store"] = "pairs"
    # which of its tasks; needed if labels of several are there, but for `dataset` and `store`
    task: str | None = None
    model: str = "bundled"  # whose tokenizer writes the openai format
    licence: str = "unknown"  # for the card of a `dataset`
