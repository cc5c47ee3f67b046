"""The table of `make_failures.py`, put together from its parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from failures_arms import PATIENCE, PPO, ROLES, Arm, Model, Settings, arms
from failures_parts import TASK, read
from failures_verdicts import CLAIMS, QUESTION, verdicts

from rlhf_helpers.evaluation import fit_gold, stop_at

MEASURES = ("kl_nats", "proxy", "gold", "wins", "surprise_nats", "distinct_bigrams", "words",
            "repeats")  # fmt: skip
LOW_PRICE, NO_PRICE = "some labels, a low price", "some labels, no price"


def models_of(s: Settings) -> list[Model]:
    """List the reward models of one seed, each once."""
    return list(dict.fromkeys(model for arm in arms(s) for model in arm.pays))


def role_of(s: Settings, model: Model) -> str | None:
    """Say "few", "some" or "many" of the reader's reward models, whose curves are drawn."""
    plain = model.labeler == "reader" and not model.member and not model.taste
    return dict(zip(s.sizes, ROLES, strict=True))[model.size] if plain else None


def table(s: Settings) -> dict[str, Any]:
    """Put all that was measured into one table, with the fits and the verdicts."""
    fitted, chosen, runs, rows = [], [], [], []
    for seed in s.seeds:
        for model in models_of(s):
            best = read(s, f"best-{model.name(seed)}.json")
            told = {k: best[k] for k in ("correlation", "per_word", "per_token")}
            fitted.append(
                read(s, f"reward-{model.name(seed)}.json") | {"member": model.member} | told
            )
            if role := role_of(s, model):
                about = {"series": f"{role} labels", "labels": model.size, "seed": seed}
                chosen.append(about | {k: best[k] for k in ("points", "samples")})
                rows += [
                    {"who": f"{role} labels, best of {p['n']}", "seed": seed}
                    | {k: p[k] for k in ("kl_nats", "proxy", "gold", "words")}
                    for p in best["points"]
                ]
        for arm in arms(s):
            made = read(s, arm.file(seed))
            about = {"who": arm.who, "part": arm.part, "seed": seed, "labels": arm.pays[0].size}
            about |= {"price": arm.price, "sign": arm.sign, "episodes": arm.episodes}
            about |= {"sampled_tokens": arm.episodes * TASK.response_length}
            runs.append(about | made)
            rows += rows_of(arm, made["points"], seed)
        rows += compared(runs, seed)
    for row in rows:
        known = None not in (row["proxy"], row["gold"])
        row["gap"] = row["proxy"] - row["gold"] if known else None
    pool = read(s, f"pool-{s.seeds[0]}.json")
    return {
        "about": "where more reward is no longer better; every label and judgement is simulated; "
        "made by data/make_failures.py",
        "question": QUESTION, "claims": [c._asdict() for c in CLAIMS],
        "settings": {k: v for k, v in asdict(s).items() if k not in ("base", "folder")},
        "ppo": asdict(PPO),  # episodes and price are each run's own
        "agreement": pool["agreement"], "verdicts": verdicts(rows), "models": fitted,
        "fits": fits(chosen, runs), "best_of_n": chosen, "runs": runs, "rows": rounded(rows),
    }  # fmt: skip


def rows_of(arm: Arm, points: list[dict], seed: int) -> list[dict]:
    """Make a row of where a policy ended; the fair one is the healthy sign too, and its beginning
    is the base model."""
    if not points:
        return []

    def row(who: str, point: dict) -> dict:
        return {"who": who, "seed": seed} | {k: point[k] for k in MEASURES}

    found = [row(arm.who, points[-1])]
    if arm.who == "fair":
        found += [row("plus reward, minus KL", points[-1]), row("base", points[0])]
    if arm.who.endswith("no price"):
        early = min(points, key=lambda p: abs(p["step"] - points[-1]["step"] / 3))
        found.append(row(f"{arm.who}, a third of the way", early))
    return found


def compared(runs: list[dict], seed: int) -> list[dict]:
    """Make rows of some labels without a price: where a judge would have stopped, and where it was
    as far from the base model as with a low price."""
    ways = {run["who"]: run["points"] for run in runs if run["seed"] == seed}
    free, low = ways[NO_PRICE], ways[LOW_PRICE]
    if not free or not low:
        return []
    kept = free[stop_at([p["wins"] for p in free], PATIENCE)]
    rows = [{"who": "stopped by a judge", "seed": seed} | {k: kept[k] for k in MEASURES}]
    return [*rows, {"who": f"{NO_PRICE}, at the KL of a low price", "seed": seed}
            | at_kl(free, low[-1]["kl_nats"])]  # fmt: skip


def at_kl(points: list[dict], kl: float) -> dict[str, float]:
    """Read proxy and gold off a path at this KL: on the straight line between the first two
    neighbours that enclose it, or at the end that is nearest."""
    for a, b in zip(points, points[1:], strict=False):
        if min(a["kl_nats"], b["kl_nats"]) <= kl <= max(a["kl_nats"], b["kl_nats"]):
            wide = b["kl_nats"] - a["kl_nats"]
            share = (kl - a["kl_nats"]) / wide if wide else 0.0
            mixed = {k: a[k] + share * (b[k] - a[k]) for k in ("proxy", "gold")}
            return {"kl_nats": kl} | mixed
    nearest = min(points, key=lambda p: abs(p["kl_nats"] - kl))
    return {k: nearest[k] for k in ("kl_nats", "proxy", "gold")}


def fits(chosen: list[dict], runs: list[dict]) -> list[dict]:
    """Fit Gao's forms to the gold of all seeds together, less that of the base model."""
    ways = [("best of n", c["series"], c["points"]) for c in chosen]
    ways += [("rl", r["who"], r["points"]) for r in runs if r["part"] == "curve"]
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for form, series, points in ways:
        gains = [(p["kl_nats"], p["gold"] - points[0]["gold"]) for p in points]
        groups.setdefault((form, series), []).extend(gains)
    found = []
    for (form, series), gains in groups.items():
        if len({kl for kl, _ in gains if kl > 1e-6}) < 2:
            continue  # nobody moved, as in a trial of a few steps
        kl, gold = torch.tensor(gains).T
        curve = fit_gold(kl, gold, form)
        turn, far = curve.turning_point(), kl.max().item()
        at = {"turns_at_nats": turn[0], "peak": turn[1]} if turn else {}
        within = bool(turn) and turn[0] <= far
        found.append({"series": series} | curve._asdict() | at | {"seen": within, "to_nats": far})
    return rounded(found)


def rounded(rows: list[dict]) -> list[dict]:
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in rows]
