"""Reports on each labeler: speed, position bias, consistency, attention, agreement with others.

    per_labeler     one row of numbers for each labeler
    positions       one row for each labeler and place on the screen
    pace            one row for each answer, in order: does somebody tire, or rush?

Plain rows (dicts) that pandas takes as they are; `plots.labeler_pace`, `labeler_positions` and
`labeler_consistency` draw them. Because the order on the screen is random, who is not biased
chooses every place equally often.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from rlhf_helpers.labels import agreement
from rlhf_helpers.labels.store import Event, LabelStore

FAST_SECONDS = 1.0  # nobody reads four texts in less


def per_labeler(store: LabelStore, task: str) -> list[dict[str, Any]]:
    """Report on each labeler of a task, one row per labeler.

    Shares have a 95 % interval (`_low`, `_high`); NaN stands where there is nothing to count.
    Columns: labeler, simulated, sittings, labels, ties, skips, flags, undos; median_seconds,
    quick_share (below a second); position_p (chi-squared test that all places are chosen equally
    often); consistency (the same choice when asked again), attention (gold items answered right),
    agreement (with each label of others on the same comparison). Labels and agreement leave gold
    items out. The intervals are Wilson's; that of agreement is a bootstrap over comparisons,
    because all who labelled one are in it together.
    """
    history, standing, gold = (
        store.events(task),
        store.events(task, standing=True),
        store.gold(task),
    )
    choices = {
        (e.labeler, e.comparison_id): e.choice
        for e in standing
        if e.kind == "choose" and not e.repeat
    }
    by_comparison: dict[str, dict[str, int | None]] = defaultdict(dict)
    for (labeler, item), choice in choices.items():
        if item not in gold:
            by_comparison[item][labeler] = choice
    rows = []
    for labeler in sorted({e.labeler for e in history}):
        mine = [e for e in standing if e.labeler == labeler]
        first, kinds = (
            [e for e in mine if not e.repeat],
            Counter(e.kind for e in history if e.labeler == labeler),
        )
        flags = {e.id for e in history if e.labeler == labeler and e.kind == "flag"}
        withdrawn = sum(e.undoes in flags for e in history if e.labeler == labeler)
        chosen = [e for e in first if e.kind == "choose"]
        again = [
            e.choice == choices.get((labeler, e.comparison_id))
            for e in mine
            if e.repeat and e.kind == "choose"
        ]
        right = [
            e.choice == gold[e.comparison_id]
            for e in first
            if e.comparison_id in gold and e.kind != "skip"
        ]
        mates = [
            [e.choice == c for who, c in by_comparison[e.comparison_id].items() if who != labeler]
            for e in chosen
        ]
        timed = [e.seconds for e in first if e.kind != "skip" and e.seconds > 0]
        row = {
            "labeler": labeler,
            "simulated": all(e.simulated for e in history if e.labeler == labeler),
            "sittings": len({e.session for e in history if e.labeler == labeler} - {None}),
            "labels": sum(e.comparison_id not in gold for e in chosen),
            "ties": sum(e.kind == "tie" for e in first),
            "skips": sum(e.kind == "skip" for e in first),
            "flags": kinds["flag"] - withdrawn,
            "undos": kinds["undo"] - withdrawn,
            "median_seconds": statistics.median(timed) if timed else math.nan,
            "quick_share": sum(t < FAST_SECONDS for t in timed) / len(timed) if timed else math.nan,
            "position_p": _p_value(_places(chosen)),
        }
        rows.append(
            row
            | _share("consistency", again)
            | _share("attention", right)
            | _clustered("agreement", mates)
        )
    return rows


def positions(store: LabelStore, task: str) -> list[dict[str, Any]]:
    """Count which places on the screen each labeler chose.

    Columns: labeler, position (from 1), count, share, and `even`, the share without bias.
    """
    rows = []
    by_labeler: dict[str, list[Event]] = defaultdict(list)
    for e in store.events(task, standing=True):
        if e.kind == "choose":
            by_labeler[e.labeler].append(e)
    for labeler, chosen in sorted(by_labeler.items()):
        counts = _places(chosen)
        total = sum(counts)
        for k, n in enumerate(counts):
            row = {"labeler": labeler, "position": k + 1, "count": n}
            rows.append(row | {"share": n / total, "even": 1 / len(counts)})
    return rows


def pace(store: LabelStore, task: str) -> list[dict[str, Any]]:
    """List each timed answer that stands, in order: labeler, number (from 1), seconds, session."""
    rows, count = [], Counter[str]()
    for e in store.events(task, standing=True):
        if e.kind != "skip" and e.seconds > 0:
            count[e.labeler] += 1
            rows.append(
                {
                    "labeler": e.labeler,
                    "number": count[e.labeler],
                    "seconds": e.seconds,
                    "session": e.session,
                }
            )
    return rows


def _places(chosen: list[Event]) -> list[int]:
    """Count the places that were chosen, for the most common number of options.

    Labels whose order on the screen is not known are left out.
    """
    shown = [e for e in chosen if e.order]
    if not shown:
        return []
    size = Counter(len(e.order) for e in shown).most_common(1)[0][0]
    counts = Counter(e.order.index(e.choice) for e in shown if len(e.order) == size)
    return [counts[k] for k in range(size)]


def _p_value(counts: list[int]) -> float:
    from scipy.stats import chisquare

    if sum(counts) < 5 * len(counts) or not counts:  # the test is not to be trusted on so few
        return math.nan
    return float(chisquare(counts).pvalue)


def _share(name: str, hits: list[bool]) -> dict[str, float]:
    from statsmodels.stats.proportion import proportion_confint

    if not hits:
        return {
            name: math.nan,
            f"{name}_low": math.nan,
            f"{name}_high": math.nan,
            f"{name}_count": 0,
        }
    low, high = proportion_confint(sum(hits), len(hits), method="wilson")
    return {
        name: sum(hits) / len(hits),
        f"{name}_low": float(low),
        f"{name}_high": float(high),
        f"{name}_count": len(hits),
    }


def _clustered(name: str, hits: list[list[bool]]) -> dict[str, float]:
    """Compute the share of hits in all clusters, with a bootstrap interval over clusters.

    There is no interval where the clusters do not differ.
    """
    found = np.array([(sum(cluster), len(cluster)) for cluster in hits if cluster]).reshape(-1, 2)

    def share(drawn: np.ndarray) -> float:
        right, count = found[drawn].sum(0)
        return float(right / count)

    everything = np.arange(len(found))
    low, high = agreement.percentiles(len(found), share)
    return {
        name: share(everything) if len(found) else math.nan,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_count": int(found[:, 1].sum()),
    }
