"""A class labels together: who gets what, one store out of many, and agreement beyond chance.

    assign        every comparison to as many labelers as wanted, the same work for each
    merge         handed-in files into one store; harmless to repeat, contradictions are reported
    raw, cohen, fleiss, krippendorff     agreement with bootstrap intervals over comparisons

The coefficients come from statsmodels and the krippendorff package. A choice is one of K options
whose order means nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from rlhf_helpers.labels import handin
from rlhf_helpers.labels.store import Contents, LabelStore, Sitting
from rlhf_helpers.records import Comparison, Label

MISSING = -1
RESAMPLES = 1_000


@dataclass(frozen=True)
class Agreement:
    """A coefficient, its 95 % interval, and how many comparisons and labelers it rests on.

    The interval has the percentiles of a bootstrap over comparisons. It is NaN where the
    comparisons do not differ, as when all agree on all: a bootstrap says nothing then.
    """

    value: float
    low: float
    high: float
    comparisons: int
    labelers: int

    def __str__(self) -> str:
        interval = (
            "no interval: the comparisons do not differ"
            if math.isnan(self.low)
            else f"{self.low:.2f} to {self.high:.2f}"
        )
        count = f"{self.comparisons} comparisons, {self.labelers} labelers"
        return f"{self.value:.2f} ({interval}; {count})"


# ---- a class -------------------------------------------------------------------------------------


def assign(
    comparisons: Sequence[Comparison], people: Sequence[str], overlap: int = 2, *, seed: int = 0
) -> dict[str, list[Comparison]]:
    """Give every comparison to `overlap` different people, in a random order.

    Nobody gets more than one more than another. Comparisons whose options are all equal are left
    out. Raises ValueError if there are fewer people than `overlap`, or one is named twice.
    """
    if not 1 <= overlap <= len(people) or len(set(people)) < len(people):
        raise ValueError(
            f"an overlap of {overlap} needs at least that many different people; there are "
            f"{len(set(people))}"
        )
    rng = random.Random(seed)
    given: dict[str, list[Comparison]] = {person: [] for person in people}
    asked = [c for c in comparisons if not c.has_equal_options]
    for comparison in rng.sample(asked, len(asked)):
        least_busy = sorted(people, key=lambda person: (len(given[person]), rng.random()))
        for person in least_busy[:overlap]:
            given[person].append(comparison)
    return given


def pseudonym(name: str, secret: str) -> str:
    """Turn a name into a pseudonym that only the holder of the secret can compute again."""
    if not secret:
        raise ValueError("a pseudonym needs a secret: any text that the class does not know")
    return (
        "labeler-"
        + hmac.new(secret.encode(), name.strip().lower().encode(), hashlib.sha256).hexdigest()[:8]
    )


def merge(
    target: LabelStore, sources: Iterable[LabelStore | Path | str] | LabelStore | Path | str,
    rename: Callable[[str, str], str] = lambda name, file: name, *, same: Collection[str] = (),
) -> list[str]:  # fmt: skip
    """Merge handed-in files (`NAME_labels.jsonl`) and label stores into `target`.

    Returns, in words, the contradictions that were left out, where a labeler answered otherwise in
    the target, and the files that held only remarks. The whole history comes along: ties, skips,
    repeats, flags, the order on the screen, and what was taken back since the last merge. Repeating
    a merge changes nothing.
    `rename(name, file)` may give pseudonyms; the computer's name is then removed too. Raises
    ValueError, before anything is merged, for sources without labels, and where one name may be two
    people: it has labelled in two files that share no sitting. `same` lists names that are one
    person at two computers.
    """
    if isinstance(sources, LabelStore | Path | str):
        sources = [sources]
    read = [handin.read(source) for source in sources]
    if empty := [name for name, held in read if not held.events]:
        raise ValueError(
            f"there are no labels in {', '.join(empty)}: leave it out, or ask for the file that "
            "handin.hand_in writes (a copy of an open database may lack its labels). Nothing was "
            "merged"
        )
    renamed = [(name, _renamed(held, name, rename)) for name, held in read]
    _refuse_to_mix(
        [(target.name, target.sittings()), *((file, held.sittings) for file, held in renamed)], same
    )
    taken = [(file, target.append(held).conflicts) for file, held in renamed]
    only_flags = [file for file, held in renamed if all(e.kind == "flag" for e in held.events)]
    return [
        f"{file}: {conflict}: what was here first stands"
        for file, conflicts in taken
        for conflict in conflicts
    ] + [f"{file}: it held no labels, only remarks on texts" for file in only_flags]


def _renamed(held: Contents, file: str, rename: Callable[[str, str], str]) -> Contents:
    names = {x.labeler: rename(x.labeler, file) for x in (*held.events, *held.sittings)}
    events = [event._replace(labeler=names[event.labeler]) for event in held.events]
    hosts = {name: {"host": ""} if new != name else {} for name, new in names.items()}
    sittings = [
        sitting._replace(labeler=names[sitting.labeler], **hosts[sitting.labeler])
        for sitting in held.sittings
    ]
    return held._replace(events=events, sittings=sittings)


def _refuse_to_mix(
    sittings: Sequence[tuple[str, Sequence[Sitting]]], same: Collection[str]
) -> None:
    """Raise ValueError for a name in two files that have none of its sittings in common."""
    known: dict[str, tuple[str, set[str]]] = {}
    for file, theirs in sittings:
        for name in sorted({x.labeler for x in theirs} - set(same)):
            ids = {x.id for x in theirs if x.labeler == name}
            before, seen = known.setdefault(name, (file, ids))
            if not ids & seen:
                raise ValueError(
                    f"{name!r} labelled in {before} and in {file}, but the two share no sitting, "
                    "and merging would make one labeler of "
                    "two people. Give each file names of its own: rename=lambda name, file: "
                    f"f'{{name}} of {{file}}'. If this is one "
                    f"person at two computers: same=[{name!r}]. Nothing was merged"
                )
            seen |= ids


def leave_one_out(labels: Iterable[Label]) -> Iterator[tuple[str, list[Label], list[Label]]]:
    """Yield (labeler, their labels, everybody else's): fit on the others, test on the one."""
    labels = _of_one_task(labels)
    for person in sorted({x.labeler for x in labels}):
        yield (
            person,
            [x for x in labels if x.labeler == person],
            [x for x in labels if x.labeler != person],
        )


# ---- agreement -----------------------------------------------------------------------------------


def raw(labels: Iterable[Label]) -> Agreement:
    """Compute the share of pairs of labels on one comparison that are the same choice."""
    return _bootstrap(choices(labels), _raw)


def cohen(labels: Iterable[Label]) -> Agreement:
    """Compute Cohen's kappa of exactly two labelers, on what both labelled (Cohen 1960)."""
    table = choices(labels)
    if len(table) != 2:
        raise ValueError(
            f"Cohen's kappa is for two labelers, and these are {len(table)}: use fleiss or "
            "krippendorff"
        )
    return _bootstrap(table[:, (table != MISSING).all(0)], _cohen)


def fleiss(labels: Iterable[Label]) -> Agreement:
    """Compute Fleiss' kappa (Fleiss 1971).

    Raises ValueError unless all comparisons have the same number of labels.
    """
    table = choices(labels)
    if len(counts := set((table != MISSING).sum(0).tolist())) != 1:
        raise ValueError(
            f"comparisons have {sorted(counts)} labels; Fleiss' kappa needs equally many on each: "
            "use krippendorff"
        )
    return _bootstrap(table, _fleiss)


def krippendorff(labels: Iterable[Label]) -> Agreement:
    """Compute Krippendorff's alpha for unordered choices (Krippendorff 2011).

    The number of labelers is free, and labels may be missing.
    """
    return _bootstrap(choices(labels), _krippendorff)


def choices(labels: Iterable[Label]) -> np.ndarray:
    """Lay out the choices as a table: one row per labeler, one column per comparison.

    Comparisons with fewer than two labels are left out; MISSING stands where a label is missing.
    """
    by_comparison: dict[str, dict[str, int]] = defaultdict(dict)
    for label in _of_one_task(labels):
        by_comparison[label.comparison_id][label.labeler] = label.choice
    shared = {i: row for i, row in sorted(by_comparison.items()) if len(row) > 1}
    if not shared:
        raise ValueError(
            "no comparison has labels of two people, so agreement cannot be measured: let labelers "
            "overlap"
        )
    people = sorted({person for row in shared.values() for person in row})
    return np.array([[row.get(person, MISSING) for row in shared.values()] for person in people])


def _of_one_task(labels: Iterable[Label]) -> list[Label]:
    """Raise ValueError if the labels are known to answer different questions."""
    labels = list(labels)
    if len(names := sorted({x.task for x in labels} - {""})) > 1:
        raise ValueError(
            f"these labels are of the tasks {', '.join(names)}: measure one at a time, say "
            f"store.labels({names[0]!r})"
        )
    return labels


def _raw(table: np.ndarray) -> float:
    pairs = [(a, b) for a, b in combinations(table, 2)]
    both = sum(int(((a != MISSING) & (b != MISSING)).sum()) for a, b in pairs)
    return sum(int(((a == b) & (a != MISSING)).sum()) for a, b in pairs) / both


def _cohen(table: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import cohens_kappa

    size = table.max() + 1
    counts = np.zeros((size, size))
    np.add.at(counts, (table[0], table[1]), 1)
    return float(cohens_kappa(counts, return_results=False))


def _fleiss(table: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import fleiss_kappa

    return float(
        fleiss_kappa(np.stack([(table == k).sum(0) for k in range(table.max() + 1)], axis=1))
    )


def _krippendorff(table: np.ndarray) -> float:
    from krippendorff import alpha

    return float(alpha(np.where(table == MISSING, np.nan, table), level_of_measurement="nominal"))


def _bootstrap(table: np.ndarray, statistic: Callable[[np.ndarray], float]) -> Agreement:
    # where all say the same, there is no luck to correct for: kappa and alpha are not defined
    def value(sample: np.ndarray) -> float:
        one = len(set(sample[sample != MISSING].tolist())) == 1
        return np.nan if one and statistic is not _raw else statistic(sample)

    size, people = table.shape[1], int((table != MISSING).any(1).sum())
    low, high = percentiles(size, lambda drawn: value(table[:, drawn]))
    return Agreement(value(table), low, high, size, people)


def percentiles(size: int, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Bootstrap a statistic of the indices 0 to `size` - 1; return its 95 % interval.

    NaN where there is no interval: one index, or the same value in every sample.
    """
    generator = np.random.default_rng(0)
    samples = range(RESAMPLES if size > 1 else 0)
    found = [statistic(generator.integers(size, size=size)) for _ in samples]
    if not found or np.isnan(found).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return (float(low), float(high)) if low < high else (np.nan, np.nan)
