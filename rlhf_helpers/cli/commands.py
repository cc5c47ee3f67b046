"""What the command line does: one function per command, in the order of the work; its argument is
the command's `options`.

    sample -> label -> fit_reward -> tune -> judge        and summarize_run, export
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedTokenizerBase

from rlhf_helpers import evaluation, hub, labelers, models, ppo, presets, reward, tasks
from rlhf_helpers.cli.options import (
    Export,
    FitReward,
    Hardware,
    Judge,
    LabelCommand,
    Sample,
    Setting,
    SummarizeRun,
    Tune,
)
from rlhf_helpers.labels import cards, exchange, frontend
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.models import BASE, Policy, RewardModel
from rlhf_helpers.records import Comparison, Label, Queries
from rlhf_helpers.runtime import files, memory, pretrained, ranks
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

# ---- what the commands do ------------------------------------------------------------------------


def sample(a: Sample) -> None:
    policy, task = load(a)
    asked = labelers.collect(
        policy,
        task,
        prompts(a, task, policy.tokenizer, a.count, a.split),
        options=a.options,
        seed=a.seed,
    )
    for c in asked:
        options = (f"  {i}  {frontend.visible(o.strip())}" for i, o in enumerate(c.options, 1))
        print("\n".join(["", frontend.visible(c.query.strip()), *options]))
    if a.store is not None:
        new = open_store(a.store, make=True).add(asked)
        print(
            f"\n{new} of {len(asked)} comparisons are new in {a.store}. Next: python -m "
            f"rlhf_helpers label --store {a.store}"
        )


def label(a: LabelCommand) -> None:
    store = open_store(a.store)
    if a.card:
        return open_card(a)
    ask(cards.label(store, a.task, a.labeler))


def fit_reward(a: FitReward) -> None:
    run = Run(a.out, seed=a.seed, device=a.device, config=a.config, micro_batch=a.micro_batch)
    policy, task = load(a, run.device)
    comparisons, labels = read_labels(a, policy)
    (fitted, train), (held, test) = reward.hold_out(comparisons, labels, a.held_out)
    model = RewardModel.from_policy(policy, a.seed, a.lora).to(run.device)
    samples = prompts(a, task, policy.tokenizer, a.normalize_samples)
    data = reward.encode(task, fitted, train, policy.tokenizer)
    reward.train(model, policy, data, samples, task, a.config, run)
    if not run.ranks.is_first:
        return
    model.classifier.config.reward_task, model.classifier.config.reward_base = (
        a.task,
        name_of(a.model),
    )
    save(model, a.out)
    simulated = sum(x.simulated for x in labels)
    print(
        f"Fitted on {len(train):,} labels ({simulated:,} of all {len(labels):,} simulated); the "
        f"model is in {a.out / 'model'}."
    )
    if test:
        data = reward.encode(task, held, test, policy.tokenizer)
        right = evaluation.wilson(
            round(reward.accuracy(reward.predictions(model, data), data.choices) * len(data)),
            len(data),
        )
        chance = 1 / data.tokens.shape[1]
        print(
            f"Held-out choices predicted: {right.rate:.1%} ({right.low:.1%} to {right.high:.1%}); "
            f"chance is {chance:.0%}."
        )


def tune(a: Tune) -> None:
    run = Run(a.out, seed=a.seed, device=a.device, config=a.ppo, checkpoint_every=a.checkpoint_every, tensorboard=a.tensorboard,
              micro_batch=a.micro_batch)  # fmt: skip
    check_memory(a, run)
    sharded = a.sharded and run.ranks.count > 1
    place, judged_by = torch.device("cpu") if sharded else run.device, reward_folder(a.reward)
    policy, task = load(a, place)
    reference = policy.frozen_copy()
    if sharded:  # before the next model comes, as each rank has a copy in main memory
        for each in (policy, reference):
            ranks.shard(each, each.lm, ("hidden", "logits", "values"), run.ranks.count, run.device)
    model = RewardModel.load(judged_by, a.precision).to(place)
    models.check_pair(model, policy.tokenizer)
    check_origin(model, a, run)
    if sharded:
        ranks.shard(model, model.classifier, (), run.ranks.count, run.device)
    pool = prompts(a, task, policy.tokenizer, a.prompts)
    scored_by = (
        f"{models.fingerprint(model)}, gain {model.gain.item():.6g}, bias {model.bias.item():.6g}"
    )

    score = reward.scorer(model, task, run.ranks.micro_batch)
    lines = ppo.tune(
        policy, score, pool, task, a.ppo, run, reference=reference, scored_by=scored_by
    )
    if not run.ranks.is_first:
        return
    if sharded:  # the checkpoint holds whole weights, this process only its part
        policy = load(a, torch.device("cpu"))[0]
        saved = load_file(a.out / "checkpoint" / "state.safetensors")
        policy.load_state_dict(
            {k.removeprefix("model."): v for k, v in saved.items() if k.startswith("model.")}
        )
    save(policy, a.out)
    print(f"Tuned: score {lines[0]['score']:.2f} to {lines[-1]['score']:.2f}, KL {lines[-1]['kl_nats_per_response']:.1f} nats; "
          f"the model is in {a.out / 'model'}.")  # fmt: skip


def judge(a: Judge) -> None:
    base, task = load(a)
    tuned = Policy.load(model_folder(a.tuned)).to(base.device)
    queries = prompts(a, task, base.tokenizer, a.count, "test")
    asked, first_is_zero = evaluation.pairs(tuned, base, queries, task, seed=a.seed)
    if a.by == "simulated":
        labels, ties = (
            labelers.simulated(
                task, name="held-out judge", seed=1_000 + a.seed, temperature=0
            ).label(asked),
            [],
        )
    else:
        card = cards.judge(
            asked,
            a.by,
            store=open_store(a.store, make=True),
            first_is_zero=first_is_zero,
            names=("tuned", "base"),
        )
        labels, ties = ask(card).labels(), card.ties()
    who = "a simulated judge" if a.by == "simulated" else a.by
    print(f"Tuned preferred by {who}: {evaluation.judge(asked, first_is_zero, labels, ties)}.")


def summarize_run(a: SummarizeRun) -> None:
    path = a.folder / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(
            f"{a.folder} holds no metrics.jsonl: name the folder of a run, as `tune --out` had it"
        )
    lines = files.read_metrics(path)
    about = (
        json.loads((a.folder / "run.json").read_text(encoding="utf-8"))
        if (a.folder / "run.json").exists()
        else {}
    )
    for name, value in about.items():
        print(f"{name:10} {value}")
    shown = (
        [lines[i] for i in sorted({round(k * (len(lines) - 1) / 5) for k in range(6)})]
        if lines
        else []
    )
    for name in shown[0] if shown else ():
        print(f"{name:28}" + "".join(f"{line.get(name, float('nan')):>12.5g}" for line in shown))


def export(a: Export) -> None:
    store = open_store(a.store)
    comparisons, labels = store.comparisons(a.task), store.labels(a.task)
    if not comparisons:
        raise ValueError(
            f"{a.store} holds nothing to export{f' of the task {a.task!r}' if a.task else ''}"
        )
    check_target(a.out, folder=a.format == "dataset")
    if a.format == "store":
        count = exchange.export(store, a.out)
    elif a.format == "dataset":
        exchange.save_dataset(a.out, comparisons, labels, licence=a.licence)
        count = len(labels)
    else:
        tokenizer = models.load_tokenizer(model_folder(a.model)) if a.format == "openai" else None
        count = exchange.write(a.out, a.format, comparisons, labels, tokenizer=tokenizer)
    print(f"{count:,} records in {a.out}.")


# ---- what they share -----------------------------------------------------------------------------


def check_memory(a: Tune, run: Run) -> None:
    """Raise MemoryError before anything is loaded, with the micro-batch that would fit, if PPO
    needs more than is free."""
    config, task = (
        pretrained.load(AutoConfig, model_folder(a.model), {"trust_remote_code": False}),
        presets.get(a.task, a.preset).task,
    )
    query = task.query_length + 8 * bool(task.prefix) + 8 * bool(task.suffix)
    try:
        memory.check(
            config, memory.free_bytes(run.device), batch=a.ppo.batch, minibatches=a.ppo.minibatches,
            query=query, response=task.response_length, precision=a.precision,
            checkpointing=a.checkpointing, lora=a.lora, micro_batch=a.micro_batch,
            ranks=run.ranks.count, sharded=a.sharded,
        )  # fmt: skip
    except ValueError as error:
        if not pretrained.is_unknown(error):
            raise
        raise pretrained.not_causal(a.model) from error


def check_origin(model: RewardModel, a: Tune, run: Run) -> None:
    """Raise ValueError if the reward model learned another task; say so if it was fitted on another
    language model."""
    config = model.classifier.config
    if (task := getattr(config, "reward_task", a.task)) != a.task:
        raise ValueError(
            f"the reward model in {a.reward} learned {task}, not {a.task}: give --task {task}, or "
            "another --reward"
        )
    if (base := getattr(config, "reward_base", name_of(a.model))) != name_of(
        a.model
    ) and run.ranks.is_first:
        print(
            f"Note: the reward model in {a.reward} was fitted on {base}, and its unit is that of "
            f"the samples of {base}."
        )


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


def read_labels(a: FitReward, policy: Policy) -> tuple[list[Comparison], list[Label]]:
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
            f"{len(read.faults)} faulty records were left out; the first: record "
            f"{read.faults[0].line}, {frontend.visible(read.faults[0].reason)}."
        )
    if read.equal:
        print(f"{read.equal} comparisons of equal texts were left out.")
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


def check_target(out: Path, folder: bool) -> None:
    """Raise ValueError if exporting to `out` would write over a label store, or into a folder that
    holds something else."""
    if out.is_file():
        with out.open("rb") as file:
            if file.read(15) == b"SQLite format 3":
                raise ValueError(
                    f"{out} is a database, and people's labels may be in it: choose another --out"
                )
    if (
        folder
        and out.is_dir()
        and any(out.iterdir())
        and not (out / "comparisons" / "train.parquet").exists()
    ):
        raise ValueError(f"{out} holds something else: choose an empty folder for the data set")


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
    """Find a model: the bundled one, the folder model/ of a run, any other folder, or a name on the
    Hub."""
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
    """Name a language model as a reward model remembers it: without the folder, or the owner on the
    Hub, that it lay in."""
    return Path(model).resolve().name


def save(model: Policy | RewardModel, folder: Path) -> None:
    """Write model and tokenizer into `model/`, which appears only when it is complete."""
    with files.writing(f"the model of {folder}"), files.replacing(folder / "model") as new:
        model.save(new)


def ask(card: Any) -> Any:
    """Let the card ask in the terminal, if it has not done so already."""
    if frontend.way_to_ask() != "typed":
        card.ask()
    return card


def open_card(a: LabelCommand) -> None:
    """Write a notebook of one cell beside the store and open it in JupyterLab, reachable from this
    machine only."""
    import nbformat

    cell = f"from rlhf_helpers.labels import cards\ncards.label({str(a.store.resolve())!r}, {a.task!r}, {a.labeler!r})"
    page = a.store.with_suffix(".label.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]), page)
    print(f"Run the one cell of {page}; stop with Ctrl-C when you are done.")
    code = subprocess.run(
        [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", str(page)], check=False
    ).returncode
    if code:
        raise OSError(
            f"JupyterLab ended with exit code {code}, its own message stands above; leave --card "
            "out to label by typing here"
        )
