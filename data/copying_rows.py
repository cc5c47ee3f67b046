"""One row of the table of `make_copying.py`: what summaries copy, and who prefers them."""

from __future__ import annotations

import math
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
    task: Task, sources: Sequence[str], texts: Sequence[str], references: Sequence[str],
    zero_shot: Sequence[str], judges: Sequence[SummaryLabeler],
) -> dict:  # fmt: skip
    """Measure summaries: copying, facts, where copies begin, ROUGE against the references, wins
    against the zero-shot model.

    A summary without words is counted, and left out of what is measured on words; it has no ROUGE
    and loses against any other. Means and shares stand in lists: the value and half of its 95 %
    interval (None of a single one), or the value and both ends.
    """
    pairs = [(a, b.strip()) for a, b in zip(sources, texts, strict=True) if copying.words(b)]
    found = copying.average(*zip(*pairs, strict=True))
    row = {name: [rounded(m.value), rounded(m.plus_minus)] for name, m in found.items()}
    row |= {"summaries": len(pairs), "empty": len(texts) - len(pairs)}
    row |= facts_of(pairs, judges[0].facts) | beginnings(pairs, judges[0].facts)
    row |= rouge(texts, references)
    asked, first_is_zero = evaluation.paired(task, sources, texts, zero_shot)
    verdicts = [judge.label(asked) for judge in judges]
    for judge, labels in zip(judges, verdicts, strict=True):
        row[f"wins_{judge.name}"] = share(evaluation.judge(asked, first_is_zero, labels))
    different = {c.id for c in asked if not c.has_equal_options}
    one, other = ([x for x in labels if x.comparison_id in different] for labels in verdicts)
    row["judges_agree"] = rounded(labelers.agreement(one, other)) if one else None
    return row


def facts_of(pairs: Sequence[tuple[str, str]], facts: Facts) -> dict:
    """Count summaries that state a fact and only true ones, and facts told truly."""
    stated = [facts(source, summary) for source, summary in pairs]
    accurate = sum(bool(found) and all(f.true for f in found) for found in stated)
    told = [len({f.name for f in found if f.true}) for found in stated]
    return {
        "accurate": share(evaluation.wilson(accurate, len(pairs))),
        "facts_told": rounded(statistics.mean(told)),
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


def rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Average ROUGE-1, -2 and -L (F, without stemming) against one reference each, by
    torchmetrics."""
    from torchmetrics.functional.text import rouge_score  # slow to import

    keys = ("rouge1", "rouge2", "rougeL")
    found = rouge_score(list(texts), list(references), rouge_keys=keys)
    return {key: rounded(found[f"{key}_fmeasure"].item()) for key in keys}


def agreements(comparisons: Sequence[Comparison], asked: Sequence[SummaryLabeler]) -> dict:
    """Say how often labelers choose the same of four: two of each kind, and one of each."""
    a, b, c, d = (who.label(comparisons) for who in asked)
    return {
        "two labelers": rounded(labelers.agreement(a, b)),
        "two of ourselves": rounded(labelers.agreement(c, d)),
        "a labeler and ourselves": rounded(labelers.agreement(a, c)),
        "comparisons": len(comparisons),
    }


def share(found: Proportion) -> list[float]:
    """Return a share with its 95 % interval."""
    return [round(x, 4) for x in (found.rate, found.low, found.high)]


def rounded(x: float) -> float | None:
    """Round for the record; what is not a number is None, as JSON has no NaN."""
    return None if math.isnan(x) else round(x, 4)
