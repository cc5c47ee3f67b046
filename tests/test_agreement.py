"""A class: who gets what, merging, agreement against hand-worked and published examples."""

import math

import numpy as np
import pytest

from rlhf_helpers.labels import agreement
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label

ITEMS = [Comparison("sentiment", f"prompt {i}", tuple("abcd")) for i in range(30)]


def rows(*people):
    """Labels from one list of choices per person; None is a missing label."""
    return [
        Label(f"c{i:02}", f"p{k}", c)
        for k, person in enumerate(people)
        for i, c in enumerate(person)
        if c is not None
    ]


def test_raw_agreement_counts_pairs_of_labels():
    # c00: three the same = 3 pairs of 3; c01: two of three = 1 of 3; c02: one pair, different; c03
    # has one label only.
    found = agreement.raw(rows([0, 1, 2, 3], [0, 1, 3, None], [0, 2, None, None]))
    assert found.value == pytest.approx(4 / 7) and (found.comparisons, found.labelers) == (3, 3)


def test_cohens_kappa_hand_worked():
    # 20 + 15 of 50 the same; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = (0.7 - 0.5) / 0.5.
    first = [0] * 25 + [1] * 25
    second = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    found = agreement.cohen(rows(first, second))
    assert found.value == pytest.approx(0.4) and found.low < 0.4 < found.high
    with pytest.raises(ValueError, match="these are 3"):
        agreement.cohen(rows(first, second, first))


def test_fleiss_kappa_of_a_hand_worked_table():
    # Four comparisons, three labels each, counts (3,0) (2,1) (1,2) (0,3): P = (1 + 1/3 + 1/3 + 1) /
    # 4, chance 1/2.
    found = agreement.fleiss(rows([0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]))
    assert found.value == pytest.approx((2 / 3 - 0.5) / 0.5)
    with pytest.raises(ValueError, match=r"\[2, 3\] labels.*use krippendorff"):
        agreement.fleiss(rows([0, 0, 0], [0, 1, 1], [0, 1, None]))


def by_coincidences(table):
    """Alpha from its definition: values paired within units, each unit weighted by 1 / (labels -
    1)."""
    units = [[c for c in column if c is not None] for column in zip(*table, strict=True)]
    units = [u for u in units if len(u) > 1]
    n = sum(map(len, units))
    observed = (
        sum(
            sum(a != b for i, a in enumerate(u) for j, b in enumerate(u) if i != j) / (len(u) - 1)
            for u in units
        )
        / n
    )
    values = [c for u in units for c in u]
    expected = sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j) / (
        n * (n - 1)
    )
    return 1 - observed / expected


def test_krippendorffs_alpha_equals_its_definition():
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=25)
    table = [
        [
            None if rng.random() < 0.3 else int(t if rng.random() < 0.6 else rng.integers(4))
            for t in truth
        ]
        for _ in range(5)
    ]
    assert agreement.krippendorff(rows(*table)).value == pytest.approx(by_coincidences(table))


def test_intervals_narrow_with_more_comparisons_and_luck_is_zero():
    rng = np.random.default_rng(1)
    few, many = (
        agreement.krippendorff(rows(*rng.integers(4, size=(2, n)).tolist())) for n in (30, 400)
    )
    assert many.low < 0 < many.high and many.high - many.low < few.high - few.low
    assert "400 comparisons, 2 labelers" in str(many)


def test_agreement_without_overlap_is_refused():
    with pytest.raises(ValueError, match="let labelers overlap"):
        agreement.raw(rows([0, None], [None, 1]))


@pytest.mark.parametrize(("people", "overlap"), [(7, 2), (3, 3), (4, 1)])
def test_everybody_gets_the_same_work_and_every_comparison_enough_labelers(people, overlap):
    names = [f"p{i}" for i in range(people)]
    given = agreement.assign(ITEMS, names, overlap, seed=3)
    sizes = [len(items) for items in given.values()]
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) == 30 * overlap
    assert all(len({c.id for c in items}) == len(items) for items in given.values())
    assert all(sum(c in items for items in given.values()) == overlap for c in ITEMS)
    assert (
        given
        == agreement.assign(ITEMS, names, overlap, seed=3)
        != agreement.assign(ITEMS, names, overlap, seed=4)
    )


def test_too_few_people_are_refused():
    with pytest.raises(ValueError, match="needs at least that many different people; there are 1"):
        agreement.assign(ITEMS, ["ada", "ada"], 2)


def test_merging_is_harmless_to_repeat_and_reports_contradictions(tmp_path):
    stores = [LabelStore(tmp_path / f"{name}.db") for name in ("class", "ada", "ben")]
    target, ada, ben = stores
    ada.add(ITEMS[:3])
    ben.add(ITEMS[1:4])
    ada.add_labels([Label(c.id, "ada", 0, 2.0, 5.0) for c in ITEMS[:3]])
    ben.add_labels(
        [Label(c.id, "ben", 1, 2.0, 5.0) for c in ITEMS[1:4]] + [Label(ITEMS[2].id, "ada", 3)]
    )
    for _ in range(2):
        conflicts = agreement.merge(target, [ada, ben])
        assert len(conflicts) == 1 and ITEMS[2].id in conflicts[0] and "ben.db" in conflicts[0]
        assert len(target.comparisons()) == 4 and len(target.labels()) == 6
    assert {x.choice for x in target.labels(labeler="ada")} == {0}


def test_a_merge_takes_the_whole_history_and_what_changed_since_the_last_one(tmp_path):
    target, ada = LabelStore(tmp_path / "class.db"), LabelStore(tmp_path / "ada.db")
    ada.add(ITEMS[:4])
    ada.record("ada", ITEMS[0].id, "choose", 2, (3, 2, 1, 0), seconds=7.0)
    ada.record("ada", ITEMS[1].id, "tie")
    ada.record("ada", ITEMS[0].id, "choose", 1, (0, 1, 2, 3), repeat=True)
    ada.record("ada", ITEMS[2].id, "flag", note="cut off")
    assert agreement.merge(target, [ada]) == [] and target.contents() == ada.contents()
    ada.undo("ada")  # the repeat
    ada.undo("ada")  # the tie
    ada.record("ada", ITEMS[1].id, "choose", 3)  # she changed her mind: no contradiction
    for _ in range(2):
        assert agreement.merge(target, [ada]) == [] and target.contents() == ada.contents()
    assert target.labels() == ada.labels() and target.progress("ada", "sentiment") == ada.progress(
        "ada", "sentiment"
    )
    target.undo("ada")  # taken back in the class's store: it stays so
    assert agreement.merge(target, [ada]) == [] and [x.choice for x in target.labels()] == [2]


def test_two_who_disagree_on_gold_or_on_who_wrote_what_are_reported(tmp_path):
    target, other = LabelStore(tmp_path / "a.db"), LabelStore(tmp_path / "b.db")
    pair = Comparison("judging", "q", ("a", "b"))
    for store, choice, systems in ((target, 0, ("tuned", "base")), (other, 1, ("base", "tuned"))):
        store.add_judgements([pair], [systems])
        store.set_gold({pair.id: choice})
    other.record("ann", pair.id, "tie")
    conflicts = agreement.merge(target, [other])
    assert (
        len(conflicts) == 2
        and "gold choice" in conflicts[0]
        and "tuned and base here but by base and tuned there" in conflicts[1]
    )
    assert target.gold() == {pair.id: 0}


def test_equal_options_are_given_to_nobody():
    alike = [Comparison("sentiment", f"alike {i}", ("a", " a")) for i in range(9)]
    given = agreement.assign([*ITEMS[:12], *alike], ["ada", "ben", "cleo"], overlap=2)
    assert [len(theirs) for theirs in given.values()] == [8, 8, 8]
    assert not {c.id for theirs in given.values() for c in theirs} & {c.id for c in alike}


def test_pseudonyms_hide_names_and_stay_the_same(tmp_path):
    first = agreement.pseudonym("Ada Lovelace", "secret")
    assert first == agreement.pseudonym(" ada lovelace ", "secret") and "ada" not in first.lower()
    assert (
        len(
            {
                first,
                agreement.pseudonym("Ada Lovelace", "other"),
                agreement.pseudonym("Ben", "secret"),
            }
        )
        == 3
    )
    source, target = LabelStore(tmp_path / "a.db"), LabelStore(tmp_path / "b.db")
    source.add(ITEMS[:1])
    source.add_labels([Label(ITEMS[0].id, "Ada Lovelace", 2)])
    assert (
        agreement.merge(target, [source], lambda name, file: agreement.pseudonym(name, "secret"))
        == []
    )
    assert [x.labeler for x in target.labels()] == [first]
    with pytest.raises(ValueError, match="needs a secret"):
        agreement.pseudonym("Ada", "")


def desks(tmp_path, *choices):
    """One file for each student, all of whom are called "me", with these choices for the first
    items."""
    made = []
    for k, theirs in enumerate(choices):
        made.append(LabelStore(tmp_path / f"student {k}.db"))
        made[-1].add(ITEMS)
        for item, choice in zip(ITEMS, theirs, strict=False):
            made[-1].record("me", item.id, "choose", choice)
    return made


def test_two_students_of_one_name_are_not_merged_into_one_labeler(tmp_path):
    """They were: of two files of six labels each, six were left."""
    target, (first, second) = (
        LabelStore(tmp_path / "class.db"),
        desks(tmp_path, [0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]),
    )
    for files in ([first, second], [second]):
        with pytest.raises(
            ValueError, match="'me' labelled in .* share no sitting.*rename=lambda name, file"
        ):
            agreement.merge(target, files)
        assert len(target.labels()) == (0 if files[0] is first else 6)
        agreement.merge(target, [first])
    others = LabelStore(tmp_path / "others.db")
    for _ in range(2):
        assert (
            agreement.merge(others, [first, second], lambda name, file: f"{name} of {file[-4]}")
            == []
        )
        assert sorted(x.labeler for x in others.labels()) == ["me of 0"] * 6 + ["me of 1"] * 6


def test_one_person_at_two_computers_is_merged_when_that_is_said(tmp_path):
    target, (first, second) = LabelStore(tmp_path / "class.db"), desks(tmp_path, [0, 1], [0, 1, 2])
    assert agreement.merge(target, [first, second], same=["me"]) == []
    assert len(target.labels()) == 3 and len(target.sittings()) == 2
    second.record("me", ITEMS[5].id, "choose", 1)
    # its sittings are known by now
    assert agreement.merge(target, [second]) == [] and len(target.labels()) == 4


def test_a_pseudonym_hides_the_computer_too(tmp_path):
    """A host is often called after its owner, and it stayed in the merged sittings and in what was
    exported from them."""
    target, (desk,) = LabelStore(tmp_path / "class.db"), desks(tmp_path, [0])
    assert desk.sittings()[0].host
    agreement.merge(target, [desk], lambda name, file: "labeler 1")
    assert [(x.labeler, x.host) for x in target.sittings()] == [("labeler 1", "")]


def test_leaving_one_labeler_out():
    labels = rows([0, 1], [1, 1], [2, None])
    views = {person: (theirs, others) for person, theirs, others in agreement.leave_one_out(labels)}
    assert sorted(views) == ["p0", "p1", "p2"]
    assert all(
        {x.labeler for x in theirs} == {p} and p not in {x.labeler for x in others}
        for p, (theirs, others) in views.items()
    )
    assert all(len(theirs) + len(others) == 5 for theirs, others in views.values())


def test_published_examples():
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four observers,
    # twelve units, nominal data: 0.743.
    units = [
        "11.1",
        "2232",
        "3333",
        "3333",
        "2222",
        "1234",
        "4444",
        "1121",
        "2222",
        ".555",
        "..11",
        "..3.",
    ]
    found = agreement.krippendorff(
        rows(*[[None if u[k] == "." else int(u[k]) for u in units] for k in range(4)])
    )
    assert found.value == pytest.approx(0.743, abs=5e-4)
    # Cohen's kappa, its textbook case with 50 grant proposals: 0.40. The interval agrees with the
    # asymptotic standard error.
    a, b = [0] * 25 + [1] * 25, [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    kappa = agreement.cohen(rows(a, b))
    po, pe = 0.7, 0.5
    error = (po * (1 - po) / (50 * (1 - pe) ** 2)) ** 0.5  # Cohen (1960)
    assert (kappa.low, kappa.high) == pytest.approx(
        (kappa.value - 1.96 * error, kappa.value + 1.96 * error), abs=0.05
    )


def test_when_everybody_says_the_same_there_is_no_chance_to_correct_for():
    for measure in (agreement.cohen, agreement.fleiss, agreement.krippendorff):
        assert math.isnan(measure(rows([1, 1, 1], [1, 1, 1])).value)
    assert agreement.raw(rows([1, 1, 1], [1, 1, 1])).value == 1


def test_perfect_agreement_on_a_few_claims_no_certainty():
    """It read 1.00 (1.00 to 1.00), which five comparisons cannot say."""
    for measure in (agreement.raw, agreement.cohen, agreement.fleiss, agreement.krippendorff):
        found = measure(rows([0, 1, 2, 3, 0], [0, 1, 2, 3, 0]))
        assert found.value == 1 and math.isnan(found.low) and math.isnan(found.high)
        assert (
            str(found)
            == "1.00 (no interval: the comparisons do not differ; 5 comparisons, 2 labelers)"
        )


def test_labels_of_several_tasks_are_refused_in_one_measure(tmp_path):
    """Judging in the same store changed the agreement on sentiment, and a labeler's pairs were held
    out with the rest."""
    store = LabelStore(tmp_path / "labels.db")
    pairs = [Comparison("sentiment-judging", c.query, ("a", "b")) for c in ITEMS]
    store.add([*ITEMS, *pairs])
    store.add_labels(
        [Label(c.id, who, i % 2) for who in ("ada", "ben") for i, c in enumerate([*ITEMS, *pairs])]
    )
    for measure in (
        agreement.raw,
        agreement.cohen,
        agreement.fleiss,
        agreement.krippendorff,
        lambda x: list(agreement.leave_one_out(x)),
    ):
        with pytest.raises(
            ValueError, match=r"tasks sentiment, sentiment-judging.*store.labels\('sentiment'\)"
        ):
            measure(store.labels())
    assert agreement.raw(store.labels("sentiment")).comparisons == 30
