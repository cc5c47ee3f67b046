"""The parts of `make_failures.py`: a pool of answers, reward models, the best of n, policies.

Each part is a function from the settings to what its file holds.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import datasets
import torch
import transformers
from failures_arms import PPO, Arm, Model, Settings, labeler
from torch import Tensor

from rlhf_helpers import (
    alternatives,
    clicks,
    features,
    labelers,
    models,
    ppo,
    presets,
    reward,
    sampling,
    tasks,
)
from rlhf_helpers.course import readers
from rlhf_helpers.records import Comparison, Rollout
from rlhf_helpers.reward import Score
from rlhf_helpers.runtime import seeds
from rlhf_helpers.runtime.guards import Collapsed
from rlhf_helpers.runtime.runs import Run

TASK = tasks.SENTIMENT
SHOWN = 3  # answers kept as samples of everything
NS = (1, 2, 4, 8, 16, 32, 64, 128)
READ = 400  # comparisons whose texts a taste's features are scaled on


# ---- the pool: what the base model writes --------------------------------------------------------


def pool(s: Settings, seed: int) -> dict:
    """Draw many answers of the base model to the same prompts, and take the unit of the gold."""
    policy = load(s)
    queries, dice = pool_queries(s, policy), seeds.generator(seed, "pool")
    length, warmth = TASK.response_length, TASK.temperature
    rollout = sampling.sample(policy, queries, length, warmth, dice, answers=s.samples)
    texts = tasks.texts(TASK, rollout.responses, policy.tokenizer)
    said = [labeler("reader", x).choose(c) for x in (0, 1) for c in asked()[: s.held_out]]
    agree = [a == b for a, b in zip(said[: s.held_out], said[s.held_out :], strict=True)]
    return {
        "gold": list(readers.Gold.of(texts)), "agreement": statistics.fmean(agree),
        "responses": rollout.responses.tolist(),
    }  # fmt: skip


def pool_queries(s: Settings, policy: models.Policy):
    return tasks.queries(TASK, policy.tokenizer, s.prompts, split="test", seed=77)


def drawn(s: Settings, policy: models.Policy, seed: int) -> Rollout:
    """Read the pool as a rollout; nobody needs its log-probabilities."""
    responses = torch.tensor(read(s, f"pool-{seed}.json")["responses"])
    queries, nothing = pool_queries(s, policy).repeat(s.samples), torch.zeros(responses.shape)
    mask = torch.ones_like(responses, dtype=torch.bool)
    return Rollout(queries, responses, mask, nothing, nothing, answers=math.gcd(s.samples, 4))


def gold_of(s: Settings, seed: int) -> readers.Gold:
    return readers.Gold(*read(s, f"pool-{seed}.json")["gold"])


# ---- reward models -------------------------------------------------------------------------------


@cache
def asked() -> list[Comparison]:
    """Return the recorded comparisons; their labels are not used."""
    return labelers.recorded(TASK)[0]


def learned(s: Settings, model: Model, seed: int) -> list[Comparison]:
    """Choose what a model learns from, fewer being the beginning of more; held out: the first."""
    return random.Random(seed).sample(asked()[s.held_out :], len(asked()) - s.held_out)[
        : model.size
    ]


def reward_model(s: Settings, model: Model, seed: int) -> dict:
    """Fit a reward model to simulated labels, keep it, and measure labels and model.

    words_chosen: words of the chosen option above the mean of its comparison; place_chosen: how
    often the one that stood first was chosen, on a card that begins with the shortest.
    """
    policy, who = load(s), labeler(model.labeler, seed)
    chosen = learned(s, model, seed)
    labels, held = who.label(chosen), asked()[: s.held_out]
    if model.taste:
        known = features.Features(policy, TASK, asked()[-READ:])
        taste = clicks.fit(policy, TASK, chosen, labels, features=known)
        taste.save(Path(s.folder) / f"{model.name(seed)}.safetensors")
        rewards = taste.rewards(held)
    else:
        preset, own = presets.get(TASK.name, "bundled"), seed + 1_000 * model.member
        start = models.RewardModel.from_policy(policy, own)
        data = reward.encode(TASK, chosen, labels, policy.tokenizer)
        samples = tasks.queries(TASK, policy.tokenizer, preset.normalize_samples, seed=100 + seed)
        reward.train(start, policy, data, samples, TASK, preset.reward, run_of(own))
        start.save(Path(s.folder) / model.name(seed))
        tested = reward.encode(TASK, held, who.label(held), policy.tokenizer, keep_equal=True)
        rewards = reward.predictions(start, tested)
    choices = torch.tensor([x.choice for x in who.label(held)])
    longer = [words(c)[x.choice] - statistics.fmean(words(c)) for c, x in zip(chosen, labels)]
    first = [readers.shortest_first(c.options) == x.choice for c, x in zip(chosen, labels)]
    return {
        "labeler": model.labeler, "labels": model.size, "taste": model.taste, "seed": seed,
        "accuracy": reward.accuracy(rewards, choices),
        "ceiling": statistics.fmean(max(who.probabilities(c.options)) for c in held),
        "words_chosen": statistics.fmean(longer), "place_chosen": statistics.fmean(first),
    }  # fmt: skip


def words(comparison: Comparison) -> list[int]:
    return [len(labelers.words(option)) for option in comparison.options]


def scorer(s: Settings, policy: models.Policy, model: Model, seed: int, bound: float = 0.0):
    """Load what a reward model pays: (B, R) token by token, or (B,) by a taste."""
    path = Path(s.folder) / model.name(seed)
    if model.taste:
        taste = clicks.Taste.load(path.with_suffix(".safetensors"), policy)
        return taste.scorer(lower_bound=bound)
    return reward.scorer(models.RewardModel.load(path, s.precision), TASK, each_token=True)


def paid_by(s: Settings, policy: models.Policy, arm: Arm, seed: int) -> Score:
    """Make what an arm is paid: by its strictest model, with its sign, with or without length."""
    base = policy.frozen_copy()  # a taste reads the model that it was fitted on
    every = [scorer(s, base, model, seed, arm.bound) for model in arm.pays]
    rate = read(s, f"best-{arm.pays[0].name(seed)}.json")["per_token"] if arm.even else 0.0

    def score(rollout: Rollout) -> Tensor:
        found = strictest([each(rollout) for each in every])
        if arm.even:
            kept, finished = tasks.truncate(TASK, rollout.responses, policy.tokenizer)
            found = found - rate * (kept & finished.unsqueeze(-1)).float()
        return arm.sign * found

    score.name = f"{arm} of seed {seed}, {[getattr(x, 'name', '') for x in every]}"
    return score


def strictest(paid: list[Tensor]) -> Tensor:
    """Take of each answer what the model pays that gives it least in all. Each (B,) or (B, R)."""
    every = torch.stack(paid)  # (M, B) or (M, B, R)
    totals = every.sum(-1) if every.dim() == 3 else every
    return every[totals.argmin(0), torch.arange(every.shape[1])]


# ---- the best of n -------------------------------------------------------------------------------


def best_of(s: Settings, model: Model, seed: int) -> dict:
    """Choose from the pool by a reward model: proxy and gold of the best of n, their correlation,
    what the model gives for length (per word and per token, in its units), samples."""
    policy, gold = load(s), gold_of(s, seed)
    rollout = drawn(s, policy, seed)
    paid = scorer(s, policy, model, seed)(rollout)
    proxy = paid.sum(-1) if paid.dim() == 2 else paid
    texts = tasks.texts(TASK, rollout.responses, policy.tokenizer)
    truth = gold(texts)
    kept, finished = tasks.truncate(TASK, rollout.responses, policy.tokenizer)
    counts = torch.tensor([float(len(labelers.words(t))) for t in texts])
    scores, values, lengths = (x.view(s.prompts, s.samples) for x in (proxy, truth, counts))
    points = [
        {
            "n": n, "kl_nats": alternatives.best_of_kl_bound(n),
            "proxy": alternatives.expected_best(scores, n).mean().item(),
            "gold": alternatives.expected_best(scores, n, values).mean().item(),
            "words": alternatives.expected_best(scores, n, lengths).mean().item(),
        }
        for n in NS if n <= s.samples
    ]  # fmt: skip
    samples = {}
    for n in (1, NS[4], s.samples):
        best = scores[:SHOWN, :n].argmax(-1) + s.samples * torch.arange(SHOWN)
        samples[f"best of {n}"] = [texts[i] for i in best.tolist()]
    return {
        "points": points, "samples": samples,
        "correlation": rounded(torch.corrcoef(torch.stack([proxy, truth]))[0, 1].item()),
        "per_word": slope(counts[finished], proxy[finished]),
        "per_token": slope(kept.sum(-1)[finished].float(), proxy[finished]),
    }  # fmt: skip


def slope(x: Tensor, y: Tensor) -> float:
    """Return by how much y grows with x, by least squares; 0 where x does not differ."""
    apart = x - x.mean() if len(x) else x
    spread = apart.square().sum()
    return ((apart * y).sum() / spread).item() if spread > 0 else 0.0


# ---- policies ------------------------------------------------------------------------------------


def tuned(s: Settings, arm: Arm, seed: int) -> dict:
    """Tune a policy and look at it on the way: a curve's policy often, another's at both ends.

    The looks are kept beside the checkpoints; seconds are those of the call that finished it.
    """
    began, policy = time.process_time(), load(s)
    base, score, gold = policy.frozen_copy(), paid_by(s, policy, arm, seed), gold_of(s, seed)
    config = replace(PPO, episodes=arm.episodes, kl_coef=arm.price, kl_target=arm.target)
    folder = Path(s.folder) / arm.file(seed).removesuffix(".json")
    folder.mkdir(exist_ok=True)
    queries = tasks.queries(TASK, policy.tokenizer, s.judged + s.test, split="test", seed=seed)
    rivals = rivals_of(s, policy, queries[: s.judged], seed)
    judge = readers.reader("held-out judge", seed=1_000 + seed)
    at = looks(config.steps, s.looks if arm.part in ("curve", "remedy") else 1)

    def proxy(rollout: Rollout) -> Tensor:
        return arm.sign * score(rollout)  # as the reward model means it

    def look(step: int) -> None:
        path = folder / f"look-{step}.json"
        if step in at and not path.exists():
            found = readers.look(
                policy, base, queries, TASK, proxy, gold, rivals, judge=judge, seed=seed,
                shown=SHOWN,
            )  # fmt: skip
            found = {"step": step, "episodes": step * config.batch} | found
            path.write_text(json.dumps(found) + "\n")

    prompts = tasks.queries(TASK, policy.tokenizer, min(2_000, arm.episodes), seed=100 + seed)
    ended = ""
    try:
        ppo.tune(
            policy, score, prompts, TASK, config, run_of(seed, folder), before_step=look,
            kl_limit=math.inf, min_entropy=-math.inf,
        )  # fmt: skip
        look(config.steps)
    except (Collapsed, FloatingPointError) as error:  # a row that went wrong is published too
        ended = str(error)
    points = sorted(
        (json.loads(p.read_text()) for p in folder.glob("look-*.json")), key=lambda x: x["step"]
    )
    points = [{k: rounded(v) for k, v in point.items()} for point in points]
    return {"points": points, "ended": ended, "seconds": round(time.process_time() - began)}


def looks(steps: int, count: int) -> set[int]:
    """Say after which steps to look: closer together where a policy has not gone far yet."""
    return {round(steps * (i / count) ** 1.5) for i in range(count + 1)}


def rivals_of(s: Settings, policy: models.Policy, queries, seed: int) -> list[str]:
    dice = seeds.generator(seed, "rivals")
    length, warmth = TASK.response_length, TASK.temperature
    rollout = sampling.sample(policy, queries, length, warmth, dice)
    return tasks.texts(TASK, rollout.responses, policy.tokenizer)


# ---- what they share -----------------------------------------------------------------------------


def load(s: Settings) -> models.Policy:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    return models.Policy.load(s.base, s.precision)


def run_of(seed: int, folder: Path | None = None) -> Run:
    return Run(folder, seed=seed, device="cpu", quiet=True)


def read(s: Settings, file: str) -> dict:
    return json.loads((Path(s.folder) / file).read_text())


def rounded(value):
    """Round for the record; what is not a number is None, as JSON has no NaN."""
    if not isinstance(value, float):
        return value
    return round(value, 4) if math.isfinite(value) else None
