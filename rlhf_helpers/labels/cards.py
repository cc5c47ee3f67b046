"""Cards to label and to judge on, inside the notebook. `sessions.Session` decides everything;
`card_base` shows it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_helpers.labels import card_base, frontend, place, typed
from rlhf_helpers.labels.asking import Choose
from rlhf_helpers.labels.card_base import Listener
from rlhf_helpers.labels.frontend import QUESTIONS, RUBRICS
from rlhf_helpers.labels.orders import balanced_sides
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison


def label(
    items: LabelStore | str | Path | Iterable[Comparison], task: Any = None,
    labeler: str | None = None, *, store: LabelStore | str | Path | None = None,
    question: str | None = None, rubric: str | None = None, repeat_every: int = 10,
    gold: Mapping[str, int] | None = None, how: Mapping[str, str] | None = None,
    mirror: Listener | None = None, choose_next: str = "random",
) -> Any:  # fmt: skip
    """Show the labelling card for a task of a store, or for a list of comparisons.

    Comparisons are kept in `store`, by default labels.db in your runs. The card is returned at
    once. Every click is saved before the next item is shown; run the cell again to go on where you
    stopped. `labeler` is your own pseudonym (`me()`) unless named. After every `repeat_every`
    answers an earlier item comes back, unmarked, in another order (0: never). `gold` names the
    right option of items (by id) whose answer is known; the store keeps it. Gold items measure
    attention, and no labels are read from them. Comparisons whose options are all equal are left
    out, and the card says how many. `how` says of items that a model picked how it did. With a
    `mirror` (`course.mirror`) the card answers back, if its labeler switches that on.
    `choose_next`: "random" asks items as they come, "thompson" lets the mirror choose three of
    four, by what it is unsure of. A task may be a question of your own: what was asked of it the
    last time is asked again.
    `card.answer("choose", 0)` labels without a browser, `card.answer_by_typing()` with text alone,
    which begins by itself in a terminal. In a headless run (RLHF_HEADLESS=1) the card is only a
    picture.
    """
    where, name, these = _place(items, task, store)
    session = Session(
        where,
        name,
        labeler or me(),
        these,
        repeat_every=repeat_every,
        gold=gold,
        how=how,
        choose=_chooser(choose_next, mirror),
        cell=frontend.cell(),
    )
    before = asked(where, name, session.labeler)
    rubric = RUBRICS.get(name, before[1]) if rubric is None else rubric
    question = question or QUESTIONS.get(name) or before[0] or "Which one is the best?"
    return typed.ask_if_typed(card_base.make(session, question, rubric, listener=mirror))


def _chooser(how: str, mirror: Any) -> Choose | None:
    """Return what chooses the next item; None to ask them as they come."""
    if how not in ("random", "thompson"):
        raise ValueError(f"choose_next is {how!r}: choose 'random' or 'thompson'")
    if how == "thompson" and not hasattr(mirror, "next"):
        raise ValueError("choose_next='thompson' needs a mirror that chooses: course.mirror.Mirror")
    return mirror.next if how == "thompson" else None


def asked(store: LabelStore, task: str, labeler: str | None = None) -> tuple[str, str]:
    """Read the question and the rubric of the latest sitting on a task that had any; ("", "") if
    nobody was ever asked."""
    sittings = [s for s in store.sittings(labeler) if s.task == task and s.question]
    return (sittings[-1].question, sittings[-1].rubric) if sittings else ("", "")


def judge(
    pairs: Iterable[Comparison], labeler: str | None = None, *,
    store: LabelStore | str | Path | None = None, question: str | None = None,
    rubric: str | None = None, first_is_zero: Sequence[bool] = (),
    names: tuple[str, str] = ("first", "second"),
) -> Any:  # fmt: skip
    """Show the card for blind A/B pairs.

    `first_is_zero` says of each pair whether the first system wrote option 0; with it the card
    tells at the end which system was preferred. The sides are random and balanced: the first stands
    on the left in half of the pairs (without `first_is_zero`: option 0). The pairs are stored as a
    task of their own (`sentiment-judging`), so they never mix with the labels that a reward model
    learns from. Every verdict is saved before the next pair is shown; run the cell again to go on
    where you stopped. Pairs of equal texts are ties and are not asked. `card.labels()` and
    `card.ties()` have the ids of the pairs as they were passed, ready for `evaluation.judge`. With
    `first_is_zero` the store also keeps who wrote what, where no card reads it:
    `store.judgements()` gives the winner of every verdict.
    """
    pairs, labeler = list(pairs), labeler or me()
    if not pairs or any(len(p.options) != 2 for p in pairs):
        raise ValueError("judging needs at least one pair, and pairs have exactly two options")
    if len(first_is_zero) not in (0, len(pairs)):
        raise ValueError(
            f"first_is_zero says of {len(first_is_zero)} pairs who wrote option 0, but there are "
            f"{len(pairs)}"
        )
    stored = [replace(p, task=f"{p.task}-judging") for p in pairs]
    where, name, these = _place(stored, None, store)
    # It makes no difference who wrote which of two equal texts, so they are always kept one way.
    systems = [
        names if zero or p.has_equal_options else names[::-1]
        for p, zero in zip(pairs, first_is_zero, strict=False)
    ]
    if systems:
        try:
            where.add_judgements(stored, systems)
        except ValueError as error:
            raise ValueError(
                f"{error}. Name the models as before, or name another store"
            ) from error
    first = [0 if zero else 1 for zero in first_is_zero] or [0] * len(stored)
    asked = [n for n, pair in enumerate(stored) if not pair.has_equal_options]
    sides = balanced_sides(labeler, [stored[n] for n in asked], [first[n] for n in asked])
    session = Session(
        where, name, labeler, these, repeat_every=0, orders=sides, cell=frontend.cell()
    )
    task = pairs[0].task
    rubric = RUBRICS.get(task, "") if rubric is None else rubric
    ids = {new.id: old.id for new, old in zip(stored, pairs, strict=True)}
    wrote = {new.id: both for new, both in zip(stored, systems, strict=False)}
    question = question or QUESTIONS.get(task, "Which one is better?")
    return typed.ask_if_typed(card_base.make(session, question, rubric, ids, wrote))


def me(pseudonym: str = "") -> str:
    """Return the name that your labels carry, kept in labeler.txt in your runs.

    `pseudonym` chooses it; otherwise a random one is made up, because the files of two people with
    the same name cannot be merged. In a headless run it is "me", and nothing is kept.
    """
    file = place.folder() / "labeler.txt"
    kept = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    if kept and not pseudonym.strip():
        return kept
    if not pseudonym.strip() and frontend.headless():
        return "me"
    name = pseudonym.strip() or f"labeler-{secrets.token_hex(3)}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(name + "\n", encoding="utf-8")
    return name


def _place(items: Any, task: Any, store: Any) -> tuple[LabelStore, str, list[Comparison] | None]:
    """Find the store, the task and the comparisons, which are added to the store if listed."""
    name, these = getattr(task, "name", task), None
    if isinstance(items, LabelStore | str | Path):
        where = items if isinstance(items, LabelStore) else LabelStore(items)
        names = {name} if name else {c.task for c in where.comparisons()}
    else:
        these = list(items)
        where = (
            store
            if isinstance(store, LabelStore)
            else LabelStore(store or place.folder() / "labels.db")
        )
        names = {c.task for c in these}
        if name and names - {name}:
            raise ValueError(
                f"these comparisons belong to {', '.join(sorted(names))}, not to {name}"
            )
    if len(names) != 1:
        raise ValueError(
            f"say which task: there are {', '.join(sorted(names)) or 'none'} in "
            f"{'the list' if these else where.name}"
        )
    if these is not None:
        where.add(these)
    return where, str(names.pop()), these
