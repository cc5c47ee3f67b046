"""One row of the table of `make_copying.py`: what summaries copy, and who prefers them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from town.words import sentences

from rlhf_helpers import copying, evaluation, labelers
from rlhf_helpers.evaluation import Proportion
from rlhf_helpers.records import Comparison
from rlhf_helpers.summary_labelers import Facts, SummaryLabeler, copied_stretches
from rlhf_helpers.tasks import Task

LEAD = {"tldr": 1, "cnndm": 2}  # sentences of the source, as many as references have


def row_of(
    task: Task, sources: Sequence[str], texts: Sequence[str], zero_shot: Sequence[str],
    judges: Sequence[SummaryLabeler],
) -> dict:  # fmt: skip
    """Measure summaries: copying, facts, where copies begin, wins against the zero-shot model.

    A summary without words is counted, and left out of everything but the wins.
    """
    pairs = [(a, b.strip()) for a, b in zip(sources, texts, strict=True) if copying.words(b)]
    found = copying.average(*zip(*pairs, strict=True))
    row = {name: [round(m.value, 4), round(m.plus_minus, 4)] for name, m in found.items()}
    row |= {"summaries": len(pairs), "empty": len(texts) - len(pairs)}
    row |= facts_of(pairs, judges[0].facts) | beginnings(pairs, judges[0].facts)
    asked, first_is_zero = evaluation.paired(task, sources, texts, zero_shot)
    verdicts = [judge.label(asked) for judge in judges]
    for judge, labels in zip(judges, verdicts, strict=True):
        row[f"wins_{judge.name}"] = share(evaluation.judge(asked, first_is_zero, labels))
    different = {c.id for c in asked if not c.has_equal_options}
    one, other = ([x for x in labels if x.comparison_id in different] for labels in verdicts)
    row["judges_agree"] = round(labelers.agreement(one, other), 4) if one else None
    return row


def facts_of(pairs: Sequence[tuple[str, str]], facts: Facts) -> dict:
    """Count summaries that state a fact and only true ones, and facts told truly."""
    stated = [facts(source, summary) for source, summary in pairs]
    accurate = sum(bool(found) and all(f.true for f in found) for found in stated)
    told = [len({f.name for f in found if f.true}) for found in stated]
    return {
        "accurate": share(evaluation.wilson(accurate, len(pairs))),
        "facts_told": round(statistics.mean(told), 4),
    }


def beginnings(pairs: Sequence[tuple[str, str]], facts: Facts) -> dict:
    """Say how many summaries copy the beginning of their source: of sources that come to the point
    at once, and of those with a preamble, a first sentence that states no fact."""
    counts = {False: [0, 0], True: [0, 0]}
    for source, summary in pairs:
        opening = copying.words(sentences(source)[0])
        preamble = not facts(source, sentences(source)[0])
        copied = any(
            copying.words(summary[start:end])[: len(opening)] == opening[:words]
            for start, end, words in copied_stretches(source, summary)
        )
        counts[preamble][0] += copied
        counts[preamble][1] += 1
    return {
        name: share(evaluation.wilson(*counts[preamble])) if counts[preamble][1] else None
        for name, preamble in (("copies_beginning", False), ("copies_preamble", True))
    }


def agreements(comparisons: Sequence[Comparison], asked: Sequence[SummaryLabeler]) -> dict:
    """Say how often labelers choose the same of four: two of each kind, and one of each."""
    a, b, c, d = (who.label(comparisons) for who in asked)
    return {
        "two labelers": round(labelers.agreement(a, b), 4),
        "two of ourselves": round(labelers.agreement(c, d), 4),
        "a labeler and ourselves": round(labelers.agreement(a, c), 4),
        "comparisons": len(comparisons),
    }


def share(found: Proportion) -> list[float]:
    """Return a share with its 95 % interval."""
    return [round(x, 4) for x in (found.rate, found.low, found.high)]
