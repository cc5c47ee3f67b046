"""How much of a taste do so many clicks give? Simulated labelers with hidden tastes (`tastes.py`).

    python benchmarks/clicks.py --seeds 0 1 2 3 4          runs, added to the file
    python benchmarks/clicks.py --arms next time           what to ask next; how long a click takes
    python benchmarks/clicks.py --arms ppo --tastes vivid --seeds 0
    python benchmarks/clicks.py --table                    the tables of all that was run

What is in the file already is not done again. A labeler sees so many comparisons of the bundled
task, drawn at random, and answers each: the choice is softmax(utility / temperature), "cannot tell"
where all options have the same utility (arm `coin`: a choice all the same). Share: on other
comparisons, the utility of the option that the fitted taste likes best, less the mean of the
options, over the same of the best option. Best of 16: wins of the answer that the taste picks of 16
against another sample, in the eyes of the hidden taste, ties half.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import tastes
import torch
from safetensors.torch import load_file, save_file

from rlhf_helpers import clicks, evaluation, labelers, models, ppo, presets, sampling, tasks
from rlhf_helpers.features import Features
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.runtime.seeds import derive

TASK = tasks.SENTIMENT
SIZES = (25, 50, 100, 200)  # clicks, "cannot tell" among them
POOL, HELD = slice(0, 1_000), slice(5_000, 5_500)  # of the recorded comparisons
BEST_OF, PROMPTS = 16, 128
CONSISTENT = 0.3  # temperature, in units of utility


class World:
    """The comparisons, their features and samples for best of n; read once and kept in a file."""

    def __init__(self, folder: Path) -> None:
        comparisons, _ = labelers.recorded(TASK)
        self.pool, self.held = comparisons[POOL], comparisons[HELD]
        self.policy = models.Policy.load().requires_grad_(False)
        self.tastes = tastes.all_tastes(comparisons[:3_000])
        self.folder, file = folder, folder / "clicks.safetensors"
        if file.exists():
            tensors = load_file(file)
            kept = [tensors.pop(name) for name in ("pool", "held")]
            self.features = Features.of_tensors(self.policy, TASK, tensors)
            self.features.pool = kept[0]
            ids = (c.id for c in [*self.pool, *self.held])
            self.features.known = dict(zip(ids, torch.cat(kept), strict=True))
        else:
            self.features = Features(self.policy, TASK, self.pool)
            held = self.features(self.held)
            save_file(
                self.features.tensors | {"pool": self.features.pool, "held": held.clone()}, file
            )

    @cache  # noqa: B019  there is one world
    def utilities(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        taste = self.tastes[name]
        return tastes.utilities(taste, self.pool), tastes.utilities(taste, self.held)

    def answers(self, name: str, arm: str, seed: int, order: list[int]):
        """Answer comparisons as the simulated labeler does: labels, and ids of "cannot tell"."""
        values = self.utilities(name)[0]
        heat = tastes.temperature(values, 0.6) if arm == "noisy" else CONSISTENT
        generator = torch.Generator().manual_seed(derive(seed, f"clicks {name} {arm}"))
        drawn = torch.multinomial((values / heat).softmax(-1), 1, generator=generator).squeeze(1)
        tied = values.amax(1) == values.amin(1) if arm != "coin" else torch.zeros(len(values)) > 0
        labels = [
            Label(self.pool[i].id, name, int(drawn[i]), simulated=True)
            for i in order
            if not tied[i]
        ]
        return labels, [self.pool[i].id for i in order if tied[i]]

    @cache  # noqa: B019
    def samples(self) -> tuple[list[Comparison], torch.Tensor]:
        """17 answers to each prompt as comparisons, and the features of the first 16."""
        queries = tasks.queries(TASK, self.policy.tokenizer, PROMPTS, split="test", seed=0)
        generator = torch.Generator().manual_seed(0)
        length, heat = TASK.response_length, TASK.temperature
        rollout = sampling.sample(
            self.policy, queries, length, heat, generator, answers=BEST_OF + 1
        )
        texts = tasks.texts(TASK, rollout.responses, self.policy.tokenizer)
        prompts = tasks.query_texts(queries, self.policy.tokenizer)
        groups = [
            Comparison(TASK.name, p, texts[i * (BEST_OF + 1) : (i + 1) * (BEST_OF + 1)], "best of")
            for i, p in enumerate(prompts)
        ]
        kept, finished = tasks.truncate(TASK, rollout.responses, self.policy.tokenizer)
        x = self.features.of_rollout(rollout, kept)
        x[~finished] = torch.nan  # pays the penalty, and is never the best
        return groups, x.view(len(groups), BEST_OF + 1, -1)[:, :BEST_OF]


def share(picked: torch.Tensor, values: torch.Tensor) -> float:
    """Share of attainable utility of picking options (N,) with utilities `values` (N, K)."""
    mean = values.mean(1)
    gained = values.gather(1, picked.unsqueeze(1)).squeeze(1) - mean
    return (gained.mean() / (values.amax(1) - mean).mean()).item()


def wins_of_best(world: World, name: str, fitted: clicks.Taste) -> float:
    """Wins of the best of 16 by a fitted taste against one more, in the hidden one's eyes."""
    groups, x = world.samples()
    rewards = (x @ fitted.tensors["weights"]).nan_to_num(nan=-torch.inf)
    utility, wins = world.tastes[name].utility, 0.0
    for group, best in zip(groups, rewards.argmax(-1).tolist(), strict=True):
        ours, theirs = (utility(group.query, group.options[i]) for i in (best, BEST_OF))
        wins += 0.5 if ours == theirs else float(ours > theirs)
    return wins / len(groups)


def run_share(world: World, arm: str, name: str, seed: int) -> dict[str, Any]:
    """Fit at every size; at 100 clicks also predictions, coverage and the best of 16."""
    generator = torch.Generator().manual_seed(derive(seed, "comparisons to label"))
    order = torch.randperm(len(world.pool), generator=generator).tolist()
    values, row = world.utilities(name)[1], {}
    for size in SIZES:
        labels, ties = world.answers(name, arm, seed, order[:size])
        if not labels:
            labels, ties = world.answers(name, "coin", seed, order[:1])
        fitted = clicks.fit(
            world.policy, TASK, world.pool, labels, cannot_tell=ties, features=world.features,
            predict=False,
        )  # fmt: skip
        row[f"share_{size}"] = share(fitted.rewards(world.held).argmax(-1), values)
        if size in (100, 200):
            row[f"wins_{size}"] = wins_of_best(world, name, fitted)
    return row


def run_preq(world: World, arm: str, name: str, seed: int) -> dict[str, Any]:
    """Predict 100 clicks one by one; how wide intervals are against the truth, before and after."""
    generator = torch.Generator().manual_seed(derive(seed, "comparisons to label"))
    order = torch.randperm(len(world.pool), generator=generator).tolist()[:100]
    labels, ties = world.answers(name, "told", seed, order)
    fitted = clicks.fit(
        world.policy, TASK, world.pool, labels, cannot_tell=ties, features=world.features
    )
    late = fitted.guesses[len(fitted.guesses) // 2 :]
    values = world.utilities(name)[1]
    clear = values.amax(1) > values.amin(1)
    chances = (values / CONSISTENT).softmax(-1)
    hits = chances.gather(1, fitted.rewards(world.held).argmax(-1, keepdim=True)).squeeze(1)
    rewards, deviation = (
        f(world.held)[clear] for f in (fitted.rewards, fitted.uncertainty)
    )  # centred below
    rewards = (rewards - rewards.mean(1, keepdim=True)).double()
    truth = values[clear] - values[clear].mean(1, keepdim=True)
    truth = truth * (rewards * truth).sum() / truth.square().sum()  # in units of the reward
    off = (rewards - truth).abs() / deviation.double().clamp(min=1e-9)
    width = fitted.tensors["width"].item()
    return {
        "late_hits": sum(g.hit for g in late) / max(1, len(late)), "late": len(late),
        "held_hits": hits[clear].mean().item(), "width": width,
        "covered": (off < 1.2816).double().mean().item(),
        "covered_plain": (off * width < 1.2816).double().mean().item(),
    }  # fmt: skip


def run_next(world: World, arm: str, name: str, seed: int) -> dict[str, Any]:
    """Ask 50 comparisons one after the other, picked by Thompson sampling or at random."""
    row: dict[str, Any] = {}
    values, by_id = world.utilities(name)[1], {c.id: i for i, c in enumerate(world.pool)}
    for how in ("random", "thompson"):
        fitted, asked, labels, ties = None, [], [], []
        for count in range(1, 51):
            question = clicks.next(
                fitted, world.pool, asked, how=how, random_share=0.0, seed=derive(seed, how)
            )
            asked.append(question.comparison.id)
            told = world.answers(name, "told", seed, [by_id[asked[-1]]])
            labels, ties = labels + told[0], ties + told[1]
            if labels:
                fitted = clicks.fit(
                    world.policy, TASK, world.pool, labels, cannot_tell=ties,
                    features=world.features, previous=fitted, predict=False,
                )  # fmt: skip
            if count in (10, 25, 50) and fitted is not None:
                picked = fitted.rewards(world.held).argmax(-1)
                row[f"{how}_{count}"] = share(picked, values)
    return row


def run_time(world: World, arm: str, name: str, seed: int) -> dict[str, Any]:
    """Time of one more click, in milliseconds of the processor; every tenth also picks a prior."""
    row: dict[str, Any] = {}
    for size in SIZES:
        labels, ties = world.answers(name, "coin", seed, list(range(size + 10)))
        fit = [world.policy, TASK, world.pool]
        fitted = clicks.fit(*fit, labels[:size], features=world.features, predict=False)
        took = []
        for count in range(size + 1, size + 11):
            began = time.process_time()
            fitted = clicks.fit(*fit, labels[:count], previous=fitted)
            took.append(1e3 * (time.process_time() - began))
        row[f"ms_{size}"], row[f"ms_{size}_tenth"] = statistics.median(took), took[-1]
    return row


def run_ppo(world: World, arm: str, name: str, seed: int) -> dict[str, Any]:
    """Tune on the taste of 100 and of 200 clicks; wins in the hidden taste's eyes, and the KL."""
    generator = torch.Generator().manual_seed(derive(seed, "comparisons to label"))
    order = torch.randperm(len(world.pool), generator=generator).tolist()
    kept = presets.KEPT  # as notebook 05 tunes on a taste
    config = replace(kept, episodes=4_096, kl_coef=0.25, lr=1.5 * kept.lr)
    row: dict[str, Any] = {}
    for size in (100, 200):
        labels, ties = world.answers(name, "told", seed, order[:size])
        fitted = clicks.fit(
            world.policy, TASK, world.pool, labels, cannot_tell=ties, features=world.features,
            predict=False,
        )  # fmt: skip
        policy = models.Policy.load()
        pool = tasks.queries(TASK, policy.tokenizer, 1_000, seed=seed)
        run, began = Run(seed=seed, device="cpu", quiet=True), time.process_time()
        ppo.tune(policy, fitted.scorer(ranked=True), pool, TASK, config, run)
        row[f"seconds_{size}"] = time.process_time() - began
        test = tasks.queries(TASK, policy.tokenizer, 256, split="test", seed=seed)
        measured = evaluation.measure(policy, world.policy, test, TASK, fitted.score, seed=seed)
        pairs, first_is_zero = evaluation.pairs(policy, world.policy, test, TASK, seed=seed)
        utility, wins = world.tastes[name].utility, 0.0
        for pair, is_zero in zip(pairs, first_is_zero, strict=True):
            a, b = (utility(pair.query, o) for o in pair.options)
            wins += 0.5 if a == b else float((a > b) == is_zero)
        row[f"ppo_wins_{size}"] = wins / len(pairs)
        row[f"kl_{size}"] = measured["kl_nats_per_response"]
        ours = {p.options[0 if z else 1] for p, z in zip(pairs, first_is_zero, strict=True)}
        row[f"different_{size}"] = len(ours) / len(pairs)
    return row


RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    "told": run_share, "noisy": run_share, "coin": run_share, "preq": run_preq, "next": run_next,
    "time": run_time, "ppo": run_ppo,
}  # fmt: skip


def table(rows: list[dict]) -> str:
    """Lay out the shares by taste, the means by arm and by who chose, and the other arms."""
    out = []
    for arm in ("told", "noisy", "coin"):
        found = [r for r in rows if r["arm"] == arm]
        if not found:
            continue
        columns = [f"share_{s}" for s in SIZES] + ["wins_100", "wins_200"]
        head = " | ".join(f"{s} clicks" for s in SIZES)
        out.append(f"\n| {arm} | seeds | {head} | best of 16 at 100 | at 200 |\n|" + "---|" * 8)
        names = list(dict.fromkeys(r["taste"] for r in found))
        groups = {n: [r for r in found if r["taste"] == n] for n in names}
        label = "**mean, tastes used to choose features**"
        groups[label] = [r for r in found if not r["kept_aside"]]
        groups["**mean, tastes kept aside**"] = [r for r in found if r["kept_aside"]]
        groups["**mean, all**"] = found
        for name, group in groups.items():
            if group:
                cells = " | ".join(f"{statistics.mean(r[c] for r in group):.2f}" for c in columns)
                star = " *" if name in names and group[0]["kept_aside"] else ""
                seeds = len({r["seed"] for r in group})
                out.append(f"| {name}{star} | {seeds} | {cells} |")
    for arm in ("preq", "next", "time", "ppo"):
        found = [r for r in rows if r["arm"] == arm]
        if found:
            columns = [k for k in found[0] if isinstance(found[0][k], float)]
            lines = {r["taste"]: r for r in found} if arm == "ppo" else {}
            out.append(f"\n| {arm} | runs | " + " | ".join(columns) + " |")
            out.append("|" + "---|" * (len(columns) + 2))
            groups = {n: [r for r in found if r["taste"] == n] for n in lines} | {"mean": found}
            for name, group in groups.items():
                cells = (f"{statistics.mean(r[c] for r in group if c in r):.2f}" for c in columns)
                out.append(f"| {name} | {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", nargs="*", choices=list(RUNS), default=["told", "coin", "noisy"])
    parser.add_argument("--tastes", nargs="*", help="all that are not kept aside, unless given")
    parser.add_argument("--kept-aside", action="store_true", help="those kept aside too")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("runs/clicks.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what is in the file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(r["arm"], r["taste"], r["seed"]) for r in rows}
    world = None if args.table else World(args.out.parent)
    for seed in args.seeds if world else []:
        names = args.tastes or [
            n for n, t in world.tastes.items() if args.kept_aside or not t.kept_aside
        ]
        for arm in args.arms:
            for name in names:
                if (arm, name, seed) in done:
                    continue
                made = RUNS[arm](world, arm, name, seed)
                aside = world.tastes[name].kept_aside
                rows.append({"arm": arm, "taste": name, "seed": seed, "kept_aside": aside} | made)
                with args.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
