"""Records check themselves when they are made, slice by row and have an identity that never
changes."""

import dataclasses

import pytest
import torch

from rlhf_helpers.records import Comparison, Label, Queries, Rollout, digest


@pytest.fixture
def rollout(ragged):
    responses = torch.arange(8).view(4, 2)
    mask = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    return Rollout(ragged, responses, mask, -responses.float(), responses / 10)


@pytest.mark.parametrize("mask, fault", [
    ([[True, True, False]], "last column"),  # right padding
    ([[True, False, True]], "before the real tokens"),  # a hole
    ([[False, False, False]], "last column"),  # nothing at all
    ([[True, True]], "shaped like tokens"),
])  # fmt: skip
def test_queries_refuse_every_padding_but_the_left(mask, fault):
    with pytest.raises(ValueError, match=f"Queries: .*{fault}"):
        Queries(torch.tensor([[5, 6, 7]]), torch.tensor(mask))


def test_queries_refuse_wrong_types_and_shapes():
    good = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="long"):
        Queries(torch.ones(2, 3), good)
    with pytest.raises(ValueError, match="long"):
        Queries(torch.ones(3, dtype=torch.long), good[0])
    with pytest.raises(ValueError, match="bool"):
        Queries(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))


@pytest.mark.parametrize("field, value, fault", [
    ("responses", torch.ones(4, 2), "long"),
    ("responses", torch.ones(3, 2, dtype=torch.long), "4 queries but 3 responses"),
    ("mask", torch.ones(4, 2), "bool"),
    ("mask", torch.ones(4, 3, dtype=torch.bool), "shaped like responses"),
    ("logprobs", torch.ones(4, 1), "logprobs must be shaped"),
    ("values", torch.ones(4, 2, dtype=torch.long), "values must be float"),
])  # fmt: skip
def test_rollout_names_the_field_that_is_wrong(rollout, field, value, fault):
    with pytest.raises(ValueError, match=fault):
        dataclasses.replace(rollout, **{field: value})


def test_records_are_frozen(rollout):
    with pytest.raises(dataclasses.FrozenInstanceError):
        rollout.values = rollout.logprobs


@pytest.mark.parametrize("rows, expected", [
    (slice(1, 3), [1, 2]),
    (torch.tensor([3, 0, 3]), [3, 0, 3]),
    (torch.tensor([True, False, False, True]), [0, 3]),
    (2, [2]),
    (-1, [3]),
    (-4, [0]),
])  # fmt: skip
def test_slicing_takes_the_same_rows_of_every_field(rollout, rows, expected):
    part = rollout[rows]
    assert len(part) == len(part.queries) == len(expected)
    for record, whole in ((part, rollout), (part.queries, rollout.queries)):
        for field in dataclasses.fields(record):
            tensor = getattr(record, field.name)
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(tensor, getattr(whole, field.name)[expected]), field.name


def test_a_loop_over_the_rows_ends(ragged):
    rows = [row for row, _ in zip(ragged, range(10))]
    assert len(rows) == 4 and all(len(row) == 1 for row in rows)
    for beyond in (4, -5):
        with pytest.raises(IndexError):
            ragged[beyond]


def test_repeat_keeps_samples_of_one_query_together(ragged):
    repeated = ragged.repeat(3)
    assert len(repeated) == 12
    for i in range(12):
        assert torch.equal(repeated.tokens[i], ragged.tokens[i // 3])
        assert torch.equal(repeated.mask[i], ragged.mask[i // 3])


def test_a_comparison_has_the_same_id_for_ever():
    # Databases on other people's disks hold this hash: it may not change. sha256 of the JSON list,
    # first 20 digits.
    assert Comparison("sentiment", "Once", ("a", "b\u00e9"), "base", 0).id == "e7252206656c819f04a7"


def test_ids_differ_whenever_the_content_does():
    base = Comparison("t", "q", ("a", "b"))
    others = [
        ("u", "q", ("a", "b")),
        ("t", "p", ("a", "b")),
        ("t", "q", ("b", "a")),
        ("t", "q", ("a", "b", "b")),
        ("t", "q", ("a", "b"), "ppo"),
        ("t", "q", ("a", "b"), "base", 1),
    ]
    ids = {base.id, *(Comparison(*other).id for other in others)}
    assert len(ids) == len(others) + 1
    assert (
        Comparison("t", "q", ["a", "b"]).id == base.id and Comparison("t", "q", ["a", "b"]) == base
    )


@pytest.mark.parametrize(
    "options, equal",
    [
        (("a", "a"), True),
        ((" a\n", "a"), True),
        (("", "  "), True),
        (("a", "a", " a", "a"), True),
        (("a", "a", "b", "a"), False),  # the choice between a and b tells something
        (("b", "a", "a"), False),
        (("a", "A"), False),
        (("a b", "a  b"), False),
    ],
)
def test_a_comparison_has_equal_options_if_they_all_read_the_same(options, equal):
    assert Comparison("t", "q", options).has_equal_options is equal


def test_comparisons_and_labels_refuse_nonsense():
    for options in (("one",), (), ("a", 2)):
        with pytest.raises(ValueError, match="Comparison"):
            Comparison("t", "q", options)
    for labeler, choice in (("me", -1), ("me", 1.5), ("me", "0"), ("", 0)):
        with pytest.raises(ValueError, match="Label"):
            Label("id", labeler, choice)


def test_a_digest_changes_with_every_number_and_every_shape():
    tokens, mask = torch.arange(6).view(2, 3), torch.ones(2, 3, dtype=torch.bool)
    others = [tokens.view(3, 2), tokens.int(), tokens + (tokens == 5), tokens.float()]
    assert (
        len(
            {
                digest(tokens, mask),
                digest(mask, tokens),
                digest(tokens),
                digest(tokens, ~mask),
                *(digest(t, mask) for t in others),
            }
        )
        == 8
    )
    # not with how it lies in memory
    assert digest(tokens.T.contiguous().T, mask.clone()) == digest(tokens, mask)
