"""What the commands read and write: models, prompts, labels, stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_helpers import hub, labelers, models, presets, tasks
from rlhf_helpers.cli.options import FitReward, Hardware, Setting, Tune
from rlhf_helpers.labels import exchange, frontend
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.models import BASE, Policy, RewardModel
from rlhf_helpers.records import Comparison, Label, Queries
from rlhf_helpers.runtime import files, ranks
from rlhf_helpers.tasks import Task


def load(a: Setting, device: torch.device | None = None) -> tuple[Policy, Task]:
    """Load the language model of a command with its tokenizer, and the task."""
    options = {}
    if isinstance(a, Hardware):
        options = {"precision": a.precision, "checkpointing": a.checkpointing, "lora": a.lora}
        options["seed"] = a.seed
    place = model_folder(a.model)
    policy = Policy.load(place, **options)
    if policy.tokenizer is None:
        policy.tokenizer = models.load_tokenizer(place)  # says what is missing
    task = presets.get(a.task, a.preset).task
    return policy.to(device or ranks.from_environment(a.device)[1]), task


def prompts(
    a: Setting, task: Task, tokenizer: PreTrainedTokenizerBase, count: int, split: str = "train"
) -> Queries:
    """Draw prompts from the bundled texts, or from the paper's where the preset asks for them."""
    if a.preset == "bundled":
        return tasks.queries(task, tokenizer, count, split=split, seed=a.seed)
    return hub.queries(
        task, tokenizer, count, split=split, seed=a.seed, data_dir=a.data_dir, repo=a.texts
    )


def read_labels(a: FitReward | Tune, policy: Policy) -> tuple[list[Comparison], list[Label]]:
    """Read comparisons and labels from where the command says, and report what was left out."""
    if a.labels == "recorded":
        return labelers.recorded(tasks.get(a.task))
    if Path(a.labels).suffix == ".db" or "://" in a.labels:
        store = open_store(a.labels)
        there = sorted({label.task for label in store.labels()})
        if there and a.task not in there:
            raise ValueError(
                f"{a.labels} holds no labels of {a.task}, but it has {', '.join(there)}: give the "
                "--task that was asked"
            )
        return store.comparisons(a.task), store.labels(a.task)
    released = a.labels == "released"
    if not released and not Path(a.labels).exists():
        raise FileNotFoundError(
            f'there is no {a.labels}: give --labels a store (.db), a file, "recorded" or "released"'
        )
    read = exchange.read(
        hub.labels_file(a.task, a.data_dir) if released else a.labels,
        "openai" if released else a.format,
        a.task,
        labeler="released with the paper" if released else "imported",
        tokenizer=policy.tokenizer,
        errors="skip" if released or a.skip_faulty else "raise",
        fits=fits_context(policy),
    )
    if read.faults:
        print(
            f"{len(read.faults)} faulty records were left out; the first: "
            f"{frontend.visible(str(read.faults[0]))}."
        )
    if read.equal:
        print(f"{read.equal} comparisons of equal texts were left out.")
    if read.other_tasks:
        print(f"{read.other_tasks} records of other tasks than {a.task} were left out.")
    return read.comparisons, read.labels


def fits_context(policy: Policy) -> Callable[[Comparison], None]:
    """Make a check that raises ValueError for a comparison longer than a model's context."""
    tokenizer, first = policy.tokenizer, len(tasks.first_ids(policy.tokenizer))

    def check(comparison: Comparison) -> None:
        query, *options = (
            len(tasks.text_ids(tokenizer, text)) for text in (comparison.query, *comparison.options)
        )
        if policy.context is not None and first + query + max(options) > policy.context:
            raise ValueError(
                f"query and longest option take {first + query + max(options)} tokens, but the "
                f"model's context is {policy.context}"
            )

    return check


def open_store(path: Path | str, make: bool = False) -> LabelStore:
    """Open a label store; one that is not there is an error unless it may be made."""
    if not make and "://" not in str(path) and not Path(path).exists():
        raise FileNotFoundError(
            f"there is no label store {path}: fill one with `python -m rlhf_helpers sample --store "
            f"{path}`"
        )
    if make and "://" not in str(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    return LabelStore(str(path))


def model_folder(path: Path | str) -> Path | str:
    """Find a model: "bundled", the model of a run, any other folder, or a name on the Hub."""
    if str(path) == "bundled":
        return BASE
    inside = Path(path) / "model"
    if (Path(path) / "run.json").exists() and not inside.exists():
        raise FileNotFoundError(
            f"the run in {path} has not written its model yet: let it finish, with the command "
            "that began it"
        )
    return inside if inside.exists() else path


def reward_folder(path: Path) -> Path | str:
    """Find a reward model: what `fit-reward` wrote."""
    if not Path(path).is_dir():
        raise FileNotFoundError(
            f"there is no reward model in {path}: fit one with `python -m rlhf_helpers fit-reward "
            f"--out {path}`"
        )
    return model_folder(path)


def name_of(model: str) -> str:
    """Name a language model as a reward model remembers it: without its folder or owner."""
    return Path(model).resolve().name


def save(model: Policy | RewardModel, folder: Path) -> None:
    """Write model and tokenizer into `model/`, which appears only when it is complete."""
    with files.writing(f"the model of {folder}"), files.replacing(folder / "model") as new:
        model.save(new)
