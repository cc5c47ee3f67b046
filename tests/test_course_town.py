"""The notebooks' way to the reader of facts: references are true, and foreign sources refused."""

import pytest

from rlhf_helpers import tasks
from rlhf_helpers.course import town


@pytest.mark.parametrize(("dataset", "split"), [("posts", "validation"), ("reports", "test")])
def test_references_state_facts_and_only_true_ones(dataset, split):
    facts = town.facts(dataset, [split])
    for row in tasks.bundled(dataset, split).select(range(20)):
        found = facts(row["text"], row["summary"])
        assert found and all(fact.true for fact in found)
        assert all(row["summary"][fact.start : fact.end].strip() for fact in found)


def test_a_source_of_another_split_is_refused():
    other = tasks.bundled("posts", "test")[0]["text"]
    with pytest.raises(ValueError, match="not among the rows"):
        town.facts()(other, "My neighbour lost a goat.")
