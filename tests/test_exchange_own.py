"""A whole store as one file: written and taken over with its history, faults named, contradictions
reported."""

import gzip
import json
import re

import pytest

from rlhf_helpers.labels import exchange
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison

FOUR = [
    Comparison("sentiment", "She said", (f" a{i}", f" b{i}", f" c{i}", f" d{i}")) for i in "xyz"
]


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def store(tmp_path):
    made = LabelStore(tmp_path / "labels.db")
    made.add(FOUR)
    return made


def test_a_store_is_written_and_taken_over_with_its_whole_history(store, tmp_path):
    a, b, c = FOUR
    pair = Comparison("sentiment-judging", "p", ("x", "y"))
    store.add_judgements([pair], [("tuned", "base")])
    store.set_gold({a.id: 2})
    store.sit_down("ann", "sentiment", "Which?", "Read.")
    store.record("ann", a.id, "choose", 2, (3, 2, 1, 0), seconds=1.5)
    store.record("ann", b.id, "tie")
    store.record("ann", c.id, "choose", 0)
    store.undo("ann")
    store.record("ann", a.id, "choose", 1, repeat=True)
    store.record("ann", c.id, "flag", note="odd é")
    store.record("ann", pair.id, "choose", 0)
    assert exchange.export(store, tmp_path / "out.jsonl") == 4
    other = LabelStore(tmp_path / "other.db")
    loaded = exchange.load(other, tmp_path / "out.jsonl")
    assert (loaded.comparisons, loaded.events, loaded.faults, loaded.conflicts) == (4, 7, [], [])
    again = exchange.load(other, tmp_path / "out.jsonl")
    assert (again.comparisons, again.events, again.conflicts) == (0, 0, [])
    assert (
        other.contents() == store.contents()
        and other.labels() == store.labels()
        and other.judgements() == store.judgements()
    )
    assert other.progress("ann", "sentiment") == store.progress(
        "ann", "sentiment"
    ) and other.labelers() == ["ann"]
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_what_was_taken_back_stays_taken_back(store, tmp_path):
    store.record("ann", FOUR[0].id, "choose", 2)
    exchange.export(store, tmp_path / "before.jsonl")
    store.undo("ann")
    assert exchange.load(store, tmp_path / "before.jsonl").events == 0 and store.labels() == []
    store.record("ann", FOUR[0].id, "choose", 1)
    assert exchange.load(store, tmp_path / "before.jsonl").events == 0 and [
        x.choice for x in store.labels()
    ] == [1]


GOOD = '{"task": "t", "query": "q", "options": ["a", "b"]'
AND = ', "events": [{"kind": "choose", "labeler": "ann", "choice": 0, '


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"task": "t"', "delimiter"),
        ("[1]", "expected an object"),
        ('{"task": "t", "query": "q"}', "'options' is missing"),
        ('{"task": "t", "query": "q", "options": ["a"]}', "at least two options"),
        (GOOD + ', "id": "x"}', "edited by hand"),
        (
            GOOD + ', "events": [{"kind": "choose", "labeler": "ann", "choice": 2}]}',
            "options 0 to 1",
        ),
        (GOOD + ', "events": [{"kind": "choose", "choice": 0}]}', "labeler"),
        (
            GOOD + AND + '"colour": 1}]}',
            "colour",
        ),
        (GOOD + ', "events": {}}', "list of events"),
        (GOOD + ', "events": [{"labeler": "ann", "kind": "like"}]}', "not a kind of event"),
        ('{"query": "\\xff"}', "escape"),
        (
            GOOD + AND + '"seconds": "long"}]}',
            "seconds must be",
        ),
        (GOOD + ', "gold": 2}', "gold 2"),
        (GOOD + ', "systems": ["tuned"]}', "who wrote option 0"),
        ('{"sitting": {"id": 1}}', "missing"),
        ('{"sitting": 3}', "sitting|mapping"),
        (
            '{"sitting": {"id": "a", "labeler": ["x"], "task": "t", "started": 1}}',
            "described by texts",
        ),
        (
            '{"sitting": {"id": "a", "labeler": "x", "task": "t", "started": "early"}}',
            "started must be a number",
        ),
        (
            '{"sitting": {"id": "' + 40 * "a" + '", "labeler": "x", "task": "t", "started": 1}}',
            "at most 32",
        ),
        (
            GOOD + AND + '"note": [1]}]}',
            "note text",
        ),
        (
            GOOD + AND + '"simulated": "yes"}]}',
            "true or false",
        ),
        (
            GOOD + AND + '"repeat": [1]}]}',
            "true or false",
        ),
        (
            GOOD + AND + '"id": "x"}]}',
            "numbers of events",
        ),
        (
            GOOD + AND + '"session": [5]}]}',
            "session text",
        ),
        ('{"task": "' + 90 * "t" + '", "query": "q", "options": ["a", "b"]}', "at most 80"),
        (GOOD + ', "round": 1' + 30 * "0" + "}", "number of 31 digits"),
        (GOOD + ', "round": Infinity}', "infinity"),
        (GOOD + ', "source": "x\\ud800"}', "not Unicode text"),
        (GOOD + ', "systems": ["a", 3]}', "who wrote option 0"),
        (GOOD + ', "systems": ["a", "' + 201 * "b" + '"]}', "at most 200"),
        (2000 * "[", "recursion|nesting"),
        (
            GOOD + ', "events": [{"kind": "choose", "labeler": "x\\ud800", "choice": 0}]}',
            "not Unicode text",
        ),
        (
            GOOD + AND + '"note": "x\\udfff"}]}',
            "not Unicode text",
        ),
        (
            GOOD
            + ', "events": [{"kind": "choose", "labeler": "ann", "choice": 0, "seconds": 1'
            + 400 * "0"
            + "}]}",
            "seconds must be",
        ),
        (
            GOOD + AND + '"order": [0, true]}]}',
            "must name each",
        ),
        (
            '{"sitting": {"id": "a", "labeler": "x", "task": "t", "started": 1, '
            '"host": "\\ud800"}}',
            "not Unicode text",
        ),
    ],
)
def test_a_malformed_line_is_named_and_the_caller_chooses_what_is_kept(
    store, tmp_path, line, reason
):
    file = tmp_path / "bad.jsonl"
    file.write_text(
        GOOD + ', "events": [{"kind": "choose", "labeler": "ann", "choice": 0}]}\n\n' + line + "\n"
    )
    with pytest.raises(
        ValueError, match=rf"bad\.jsonl, line 3: .*({reason}).*nothing was imported"
    ):
        exchange.load(store, file)
    assert len(store.comparisons()) == 3 and store.labels() == []
    loaded = exchange.load(store, file, errors="skip")
    (fault,) = loaded.faults
    assert (loaded.comparisons, loaded.events, fault.line) == (1, 1, 3) and re.search(
        reason, fault.reason
    )


@pytest.mark.parametrize(
    "change", [{}, {"labeler": "eve"}, {"repeat": True}, {"undoes": 99}], ids=str
)
def test_nobody_takes_back_what_another_answered(store, tmp_path, change):
    """An undo in a file took back any answer it named: another labeler's, to another comparison. Or
    it ended the import."""
    store.record("ann", FOUR[0].id, "choose", 1)
    store.record("mallory", FOUR[1].id, "choose", 1)
    (target,) = (e.id for e in store.events(labeler="ann"))
    exchange.export(store, tmp_path / "x.jsonl")
    records = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    (mine,) = (r for r in records if r.get("events") and r["events"][0]["labeler"] == "mallory")
    mine["events"].append(
        {"labeler": "mallory", "kind": "undo", "undoes": target, "id": 99, "created": 9.0} | change
    )
    other, file = LabelStore(tmp_path / "other.db"), lines(tmp_path / "x.jsonl", *records)
    with pytest.raises(ValueError, match="takes back event .* nothing was added"):
        exchange.load(other, file)
    loaded = exchange.load(other, file, errors="skip")
    assert len(loaded.conflicts) == 1 and "which is no answer of" in loaded.conflicts[0]
    assert [x.labeler for x in other.labels()] == ["ann", "mallory"] and other.progress(
        "ann", "sentiment"
    ).done == 1


def test_numbers_and_letters_that_no_store_can_hold_are_faults_of_their_record(tmp_path):
    pair, big = {"prompt": "p", "first": "a", "second": "b", "choice": "first"}, 10**30
    wrong = [{"round": big}, {"seconds": 10**400}, {"labeler": "x\ud800"}, {"created": big}]
    file = lines(tmp_path / "x", pair, *(pair | change for change in wrong))
    read, store = exchange.read(file, "pairwise", "t", errors="skip"), LabelStore(tmp_path / "l.db")
    assert [f.line for f in read.faults] == [2, 3, 4, 5] and store.add(
        read.comparisons
    ) == store.add_labels(read.labels) == 1


def test_a_contradiction_keeps_nothing_or_the_rest(store, tmp_path):
    exchange.export(store, tmp_path / "empty.jsonl")
    other = LabelStore(tmp_path / "other.db")
    exchange.load(other, tmp_path / "empty.jsonl")
    for desk, choice in ((store, 0), (other, 3)):
        desk.record("ann", FOUR[0].id, "choose", choice)
    other.record("ann", FOUR[1].id, "choose", 1)
    exchange.export(other, tmp_path / "other.jsonl")
    with pytest.raises(
        ValueError, match="with option 0 here but option 3 there; nothing was added"
    ):
        exchange.load(store, tmp_path / "other.jsonl")
    assert [x.choice for x in store.labels()] == [0]
    assert len(exchange.load(store, tmp_path / "other.jsonl", errors="skip").conflicts) == 1
    assert [x.choice for x in store.labels()] == [0, 1]


def test_an_empty_store_is_not_exported(tmp_path):
    with pytest.raises(ValueError, match="nothing to export yet"):
        exchange.export(LabelStore(tmp_path / "l.db"), tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


def test_a_compressed_export_is_loaded(store, tmp_path):
    store.record("ann", FOUR[0].id, "choose", 2)
    exchange.export(store, tmp_path / "x.jsonl")
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes()))
    other = LabelStore(tmp_path / "other.db")
    assert exchange.load(other, packed).events == 1 and other.labels() == store.labels()
