"""Reports on labelers: counted by hand for a small day's work, and the figures draw what they were
given."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
from scipy.stats import chi2

from rlhf_helpers.course import plots
from rlhf_helpers.labels import reports
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label

ITEMS = [Comparison("sentiment", f"q{i}", ("a", "b", "c", "d")) for i in range(24)]
FORWARDS, BACKWARDS = (0, 1, 2, 3), (3, 2, 1, 0)


@pytest.fixture
def store(tmp_path):
    """Ada works carefully; Ben always clicks the first place, fast, and is asked the same items."""
    store = LabelStore(tmp_path / "labels.db")
    store.add(ITEMS)
    store.set_gold({ITEMS[0].id: 2, ITEMS[1].id: 2, ITEMS[2].id: 1})
    for i, c in enumerate(ITEMS):
        order = FORWARDS if i % 2 else BACKWARDS
        store.record("ada", c.id, "choose", 2, order, seconds=4.0 + i % 3)
        store.record("ben", c.id, "choose", order[0], order, seconds=0.5)
    store.undo("ada")
    store.record("ada", ITEMS[-1].id, "skip")
    store.record("ada", ITEMS[5].id, "flag", note="cut off")
    for item, choice in ((ITEMS[3], 2), (ITEMS[4], 2), (ITEMS[6], 0)):
        store.record("ada", item.id, "choose", choice, BACKWARDS, repeat=True)
    return store


def test_a_report_counted_by_hand(store):
    ada, ben = reports.per_labeler(store, "sentiment")
    counted = ("labeler", "labels", "skips", "undos", "flags", "ties", "sittings")
    # of 23 choices three are on gold
    assert [ada[name] for name in counted] == ["ada", 20, 1, 1, 1, 0, 1]
    assert (
        ada["median_seconds"] == 5.0
        and ada["quick_share"] == 0
        and ben["median_seconds"] == 0.5
        and ben["quick_share"] == 1
    )
    assert (
        ada["consistency"] == pytest.approx(2 / 3)
        and ada["consistency_count"] == 3
        and math.isnan(ben["consistency"])
    )
    # Wilson (1927) for 2 of 3, by the formula: centre (2 + 1.92) / (3 + 3.84), half 1.96 / (3 +
    # 3.84) * sqrt(2/3 + 0.96)
    assert (ada["consistency_low"], ada["consistency_high"]) == pytest.approx(
        (0.2077, 0.9385), abs=1e-3
    )
    assert ada["attention"] == pytest.approx(2 / 3)  # gold 2, 2, 1 and she always takes 2
    assert ben["attention"] == pytest.approx(0)  # he takes 3, 0, 3
    assert ada["agreement"] == 0 and ada["agreement_count"] == 20 and ben["agreement_count"] == 20
    # what does not vary here says nothing of elsewhere
    assert math.isnan(ada["agreement_low"]) and math.isnan(ada["agreement_high"])
    # Ben: 24 of 24 in the first place, so chi-squared = (18 * 18 + 3 * 6 * 6) / 6 = 72 with 3
    # degrees of freedom hers is 2 or 3 by turns here
    assert ben["position_p"] == pytest.approx(chi2.sf(72, 3)) and ada["position_p"] < 0.05
    assert not ada["simulated"]


def test_the_interval_of_agreement_counts_comparisons_not_pairs_of_labels(tmp_path):
    """Twelve labelers of fifteen comparisons give 165 pairs each, and Wilson's interval took them
    for 165 independent ones."""
    store, items = LabelStore(tmp_path / "labels.db"), ITEMS[:15]
    store.add(items)
    for k in range(12):
        store.add_labels(
            [
                Label(c.id, f"p{k:02}", 0 if i < 9 or not k else 1 + k % 3)
                for i, c in enumerate(items)
            ]
        )
    # agrees with all on nine comparisons, with nobody on six
    row = reports.per_labeler(store, "sentiment")[0]
    assert (row["agreement"], row["agreement_count"]) == (9 / 15, 165)
    # fifteen coins, as all pairs of one comparison fall alike
    half = 1.96 * (0.6 * 0.4 / 15) ** 0.5
    assert (row["agreement_low"], row["agreement_high"]) == pytest.approx(
        (0.6 - half, 0.6 + half), abs=0.05
    )


def test_places_on_the_screen_not_option_numbers(store):
    rows = reports.positions(store, "sentiment")
    assert [r["count"] for r in rows if r["labeler"] == "ben"] == [24, 0, 0, 0]
    # Ada's option 2 stands in place 3 forwards (11 that stand) and in place 2 backwards (12, and 2
    # of 3 repeats; the third is place 4)
    assert [r["count"] for r in rows if r["labeler"] == "ada"] == [0, 14, 11, 1]
    assert {r["even"] for r in rows} == {0.25} and sum(r["share"] for r in rows) == pytest.approx(2)


def test_pace_is_in_the_order_of_answering(store):
    rows = [r for r in reports.pace(store, "sentiment") if r["labeler"] == "ada"]
    assert [r["number"] for r in rows] == list(range(1, 24)) and [
        r["seconds"] for r in rows[:4]
    ] == [4, 5, 6, 4]


def test_few_choices_and_labels_from_files_claim_nothing(tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    store.add(ITEMS)
    for c in ITEMS[:19]:
        store.record("ada", c.id, "choose", 0, FORWARDS)
    store.record("ben", ITEMS[0].id, "choose", 0, simulated=True)
    ada, ben = reports.per_labeler(store, "sentiment")
    assert (
        math.isnan(ada["position_p"])
        and math.isnan(ben["position_p"])
        and math.isnan(ada["median_seconds"])
        and ben["simulated"]
    )
    assert (
        reports.per_labeler(store, "tldr") == []
        and [r["labeler"] for r in reports.positions(store, "sentiment")] == ["ada"] * 4
    )


def test_figures_draw_what_they_were_given(store):
    per, where, when = (
        reports.per_labeler(store, "sentiment"),
        reports.positions(store, "sentiment"),
        reports.pace(store, "sentiment"),
    )
    ax = plots.labeler_positions(where)
    assert sorted(round(b.get_height(), 6) for b in ax.patches) == sorted(
        round(r["share"], 6) for r in where
    )
    assert len({b.get_hatch() for b in ax.patches}) == 4 and [
        t.get_text() for t in ax.get_xticklabels()
    ] == ["ada", "ben"]
    ax = plots.labeler_pace(when, window=3)
    ada, ben = ax.get_lines()
    assert (
        ada.get_ydata()[2] == 5.0
        and set(ben.get_ydata()) == {0.5}
        and ada.get_linestyle() != ben.get_linestyle()
    )
    assert "ada: median 5.0 s" in [t.get_text() for t in ax.get_legend().get_texts()]
    _, mine = plt.subplots()
    ax = plots.labeler_consistency(per, ax=mine)
    assert ax is mine and [t.get_text() for t in ax.get_yticklabels()] == ["ada", "ben"]
    drawn = {c.get_label().split()[0]: c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert drawn["consistency"] == [pytest.approx(2 / 3)] and drawn["attention"] == [
        pytest.approx(2 / 3),
        0,
    ]
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")
