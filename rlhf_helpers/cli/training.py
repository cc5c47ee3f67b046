"""The commands that train: `fit-reward` and `tune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig

from rlhf_helpers import (
    alternatives,
    dpo,
    evaluation,
    labelers,
    models,
    online,
    ppo,
    presets,
    reward,
)  # fmt: skip
from rlhf_helpers.cli.loading import (
    load,
    model_folder,
    name_of,
    open_store,
    prompts,
    read_labels,
    reward_folder,
    save,
)
from rlhf_helpers.cli.options import FitReward, Tune
from rlhf_helpers.labels import people
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.online import OnlineConfig
from rlhf_helpers.runtime import bf16, files, memory, pretrained, ranks
from rlhf_helpers.runtime.runs import Run


def fit_reward(a: FitReward) -> None:
    """Fit a reward model on labels, save it, and report its accuracy on held-out queries."""
    run = Run(a.out, seed=a.seed, device=a.device, config=a.config, micro_batch=a.micro_batch)
    a = replace(a, precision=bf16.choose(a.precision, run.device))
    policy, task = load(a, run.device)
    comparisons, labels = read_labels(a, policy)
    (fitted, train), (held, test) = reward.hold_out(comparisons, labels, a.held_out)
    model = RewardModel.from_policy(policy, a.seed, a.lora).to(run.device)
    samples = prompts(a, task, policy.tokenizer, a.normalize_samples)
    data = reward.encode(task, fitted, train, policy.tokenizer)
    reward.train(model, policy, data, samples, task, a.config, run)
    if not run.ranks.is_first:
        return
    save_reward(model, a, a.out)
    simulated = sum(x.simulated for x in labels)
    print(
        f"Fitted on {len(train):,} labels ({simulated:,} of all {len(labels):,} simulated); the "
        f"model is in {a.out / 'model'}."
    )
    if test:
        data = reward.encode(task, held, test, policy.tokenizer)
        accuracy = reward.accuracy(reward.predictions(model, data), data.choices)
        right = evaluation.wilson(round(accuracy * len(data)), len(data))
        print(
            f"Held-out choices predicted: {right.rate:.1%} ({right.low:.1%} to {right.high:.1%}); "
            f"chance is {1 / data.tokens.shape[1]:.0%}."
        )


ALGORITHMS = {
    "ppo": ppo.step, "rloo": alternatives.rloo_step, "grpo": alternatives.grpo_step,
}  # fmt: skip


def tune(a: Tune) -> None:
    """Tune the policy, against a reward model or with labels collected meanwhile, and save it."""
    if a.rounds is None and a.fit != presets.get(a.task, a.preset).reward:
        raise ValueError(
            "--fit.* is not used without --rounds: add --rounds, or set the reward model's numbers "
            "where it is fitted, `fit-reward --config.*`"
        )
    run = Run(
        a.out, seed=a.seed, device=a.device, config=a.dpo if a.method == "dpo" else a.ppo,
        checkpoint_every=a.checkpoint_every, tensorboard=a.tensorboard, micro_batch=a.micro_batch,
    )  # fmt: skip
    a = replace(a, precision=bf16.choose(a.precision, run.device))
    if a.method == "dpo":
        return tune_on_labels(a, run)
    check_memory(a, run)
    policy, lines = tune_offline(a, run) if a.rounds is None else tune_online(a, run)
    if not run.ranks.is_first:
        return
    save(policy, a.out)
    first, last = lines[0], lines[-1]
    print(
        f"Tuned: score {first['score']:.2f} to {last['score']:.2f}, KL "
        f"{last['kl_nats_per_response']:.1f} nats; the model is in {a.out / 'model'}."
    )


def tune_on_labels(a: Tune, run: Run) -> None:
    """Tune on the labels themselves, with DPO."""
    policy, task = load(a, run.device)
    data = dpo.encode(task, *read_labels(a, policy), policy)
    lines = dpo.fit(policy, data, task, a.dpo, run)
    if run.ranks.is_first:
        save(policy, a.out)
        last = lines[-10:]
        loss, right = (sum(x[k] for x in last) / len(last) for k in ("loss", "accuracy"))
        print(
            f"Tuned on {len(data):,} labels: in the last {len(last)} steps loss {loss:.3f} (log of "
            f"the options at the start: {lines[0]['loss']:.3f}), accuracy {right:.0%}; the model "
            f"is in {a.out / 'model'}."
        )


def tune_offline(a: Tune, run: Run) -> tuple[Policy, list[dict[str, float]]]:
    """Tune against a reward model that was fitted before."""
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
    each_token = a.each_token and a.method == "ppo"
    score = reward.scorer(model, task, run.ranks.micro_batch, each_token=each_token)
    algorithm = ALGORITHMS[a.method]
    lines = ppo.tune(
        policy, score, pool, task, a.ppo, run, reference=reference, algorithm=algorithm
    )
    if sharded and run.ranks.is_first:  # the checkpoint holds whole weights, this process a part
        policy = load(a, torch.device("cpu"))[0]
        saved = files.read_tensors(a.out / "checkpoint" / "state.safetensors")
        policy.load_state_dict(
            {k.removeprefix("model."): v for k, v in saved.items() if k.startswith("model.")}
        )
    return policy, lines


def tune_online(a: Tune, run: Run) -> tuple[Policy, list[dict[str, float]]]:
    """Tune while labels are collected; the last reward model is saved in `reward/`."""
    policy, task = load(a, run.device)
    preset = presets.get(a.task, a.preset)
    total = preset.labels if a.total_labels is None else a.total_labels
    initial = -(-total // a.rounds) if a.initial_labels is None else a.initial_labels
    config = OnlineConfig(initial, total, a.rounds, preset.normalize_samples, a.each_token)
    source: online.Source
    if a.labeler == "simulated":
        source = labelers.simulated(task).label
    else:
        store = open_store(a.store, make=True)
        source = people.People(store, None if a.labeler == "everybody" else a.labeler)
    pool = prompts(a, task, policy.tokenizer, a.prompts)
    model, lines = online.tune(policy, task, pool, source, run, config, a.fit, a.ppo)
    if run.ranks.is_first:
        save_reward(model, a, a.out / "reward")
        asked = online.Rounds(run)
        print(
            f"{a.rounds} reward models, the last on {len(asked.labels[a.rounds - 1]):,} labels "
            f"({a.labeler}); it is in {a.out / 'reward'}."
        )
    return policy, lines


def save_reward(model: RewardModel, a: FitReward | Tune, folder: Path) -> None:
    """Save a reward model with the names of the task and the language model it was fitted for."""
    config = model.classifier.config
    config.reward_task, config.reward_base = a.task, name_of(a.model)
    folder.mkdir(exist_ok=True)
    save(model, folder)


def check_memory(a: Tune, run: Run) -> None:
    """Raise MemoryError before anything is loaded if PPO needs more memory than is free."""
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
    """Raise ValueError if the reward model learned another task.

    One that was fitted on another language model is only reported.
    """
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
