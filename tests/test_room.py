"""The tastes in a room: on tastes that are known, by hand and against numpy and pandas."""

import numpy as np
import pandas as pd
import pytest
import torch

from rlhf_helpers.course import plots, room
from rlhf_helpers.records import Comparison, Label


class Known:
    """A taste by duck typing: its rewards are given."""

    def __init__(self, rewards):
        self.given = torch.tensor(rewards, dtype=torch.float32)

    def rewards(self, comparisons):
        return self.given[: len(comparisons)]


ASKED = [Comparison("toy", f"a{i}", ("b", "c", "d")) for i in range(3)]
ANN = Known([[1.0, 2, 3], [0, 0, 3], [5, 1, 0]])
LIKE_ANN = Known([[11.0, 12, 13], [-5, -5, -2], [5, 1, 0]])  # by constants of each comparison
AGAINST = Known([[3.0, 2, 1], [3, 3, 0], [-5, -1, 0]])
ELSEWHERE = Known([[1.0, 0, 1], [1, 0, 0], [0, 1, 1]])


def test_agreement_looks_at_differences_within_comparisons_alone():
    tastes = {"ann": ANN, "bob": LIKE_ANN, "cyd": AGAINST, "dan": ELSEWHERE}
    found = room.agreement(tastes, ASKED)
    assert found.loc["ann", "bob"] == pytest.approx(1)
    assert found.loc["ann", "cyd"] == pytest.approx(-1)
    rows = [t.given - t.given.mean(1, keepdim=True) for t in (ANN, ELSEWHERE)]
    by_pandas = pd.Series(rows[0].flatten()).corr(pd.Series(rows[1].flatten()))
    assert found.loc["dan", "ann"] == pytest.approx(by_pandas)
    with pytest.raises(ValueError, match="two tastes or more, and there are 1"):
        room.agreement({"ann": ANN}, ASKED)


def test_the_map_keeps_distances_where_a_plane_can():
    r = np.array([[1, 0.5, -0.2], [0.5, 1, 0.1], [-0.2, 0.1, 1]])  # a triangle fits on a plane
    found = room.places(pd.DataFrame(r, index=list("abc"), columns=list("abc")))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = np.linalg.norm(found.iloc[i] - found.iloc[j])
        assert apart == pytest.approx(np.sqrt(2 * (1 - r[i, j])))
    assert found.attrs["kept"] == pytest.approx(1)
    four = room.places(pd.DataFrame(np.eye(4)))  # a tetrahedron does not
    assert four.attrs["kept"] == pytest.approx(2 / 3)


def test_who_prefers_whose_picks_by_hand():
    """Ann picks d, d, b. Dan likes d as much as b of the first, c as d of the second, c and d of
    the third better."""
    found = room.preferred({"ann": ANN, "cyd": AGAINST, "dan": ELSEWHERE}, ASKED)
    assert found.loc["ann", "ann"] == 1  # rows judge, columns pick
    # in Dan's eyes: one below and one alike (3/4); one above, one alike (1/4); two above (0)
    assert found.loc["dan", "ann"] == pytest.approx((0.75 + 0.25 + 0) / 3)
    assert found.loc["cyd", "ann"] == 0


def test_reliability_steps_the_halves_up():
    labels = [Label(ASKED[i % 3].id, "ann", 0) for i in range(6)]
    seen = []

    def fit(part):
        seen.append(len(part))
        return ANN if len(seen) == 1 else ELSEWHERE

    r = room.agreement({"a": ANN, "b": ELSEWHERE}, ASKED).loc["a", "b"]
    assert room.reliability(fit, labels, ASKED) == pytest.approx(2 * r / (1 + r))
    assert seen == [3, 3]
    with pytest.raises(ValueError, match="half of 3 labels says nothing"):
        room.reliability(fit, labels[:3], ASKED)


def test_the_figures_show_every_name_and_share():
    tastes = {"ann": ANN, "cyd": AGAINST, "dan": ELSEWHERE}
    ax = plots.taste_map(room.places(room.agreement(tastes, ASKED)))
    assert {t.get_text() for t in ax.texts} == set(tastes) and "100%" in ax.get_xlabel()
    table = room.preferred(tastes, ASKED)
    ax = plots.preferred(table)
    assert [t.get_text() for t in ax.texts] == [f"{x:.0%}" for x in table.to_numpy().ravel()]
