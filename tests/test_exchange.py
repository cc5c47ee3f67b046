"""Formats of others: files written by hand are read, what is written is read back, faults have a place and a reason."""

import csv
import json

import pytest

from rlhf_helpers import exchange
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.store import LabelStore

FOUR = [Comparison("sentiment", 'She said "no", then', (f" a{i}.", f" b\n{i}.", f" c,{i}.", f" d{i} é."), "imported") for i in range(3)]
TWO = [Comparison("sentiment", f"prompt {i}", (f" left {i}", f" right {i}"), "imported") for i in range(3)]


def labels(comparisons, choices=(1, 0, 1)):
    return [Label(c.id, "ada", k, 1.5, 20.0, simulated=k == 0) for c, k in zip(comparisons, choices, strict=True)]


class Bytes:
    """A tokenizer by duck typing: one byte, one token."""

    def __len__(self):
        return 256

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": list(text.encode())}

    def batch_decode(self, rows):
        return [bytes(row).decode() for row in rows]


def lines(path, *records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def test_openais_released_format(tmp_path):
    record = {
        "query": [72, 105, 50259, 50259],
        "sample0": [97, 46],
        "sample1": [98, 46],
        "sample2": [99, 50259],
        "sample3": [100, 46],
        "best": 2,
    }
    file = tmp_path / "offline_5k.json"
    file.write_text(json.dumps([record]))
    read = exchange.read(file, "openai", "sentiment", labeler="Scale", tokenizer=Bytes())
    assert read.comparisons == [Comparison("sentiment", "Hi", ("a.", "b.", "c", "d."), "imported")]
    assert read.labels == [Label(read.comparisons[0].id, "Scale", 2)]
    with pytest.raises(ValueError, match="pass the tokenizer"):
        exchange.read(file, "openai", "sentiment")


def user(text):
    return [{"role": "user", "content": text}]


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("record", "query", "texts"),
    [
        ({"prompt": "P", "chosen": " good", "rejected": " bad"}, "P", (" good", " bad")),
        ({"chosen": "The day was good", "rejected": "The day was grim"}, "The day was ", ("good", "grim")),
        ({"prompt": user("Hi"), "chosen": said("Yes"), "rejected": said("No")}, "Hi", ("Yes", "No")),
        ({"chosen": user("Hi") + said("Yes"), "rejected": user("Hi") + said("No")}, "Hi", ("Yes", "No")),
    ],
)  # fmt: skip
def test_pairs_of_preference_libraries(tmp_path, record, query, texts):
    read = exchange.read(lines(tmp_path / "pairs.jsonl", record), "pairs", "sentiment")
    (comparison,), (label,) = read.comparisons, read.labels
    assert comparison.query == query and comparison.options[label.choice] == texts[0] and set(comparison.options) == set(texts)


def test_the_chosen_one_is_not_always_on_the_same_side(tmp_path):
    file = lines(tmp_path / "p.jsonl", *({"prompt": f"{i}", "chosen": "a", "rejected": "b"} for i in range(40)))
    assert {label.choice for label in exchange.read(file, "pairs", "t").labels} == {0, 1}


@pytest.mark.parametrize(("format", "comparisons"), [("csv", FOUR), ("csv", TWO), ("pairwise", TWO), ("openai", FOUR)])
def test_what_is_written_is_read_back(tmp_path, format, comparisons):
    given = labels(comparisons)
    assert exchange.write(tmp_path / "out", format, comparisons, given, tokenizer=Bytes()) == 3
    read = exchange.read(tmp_path / "out", format, "sentiment", labeler="ada", tokenizer=Bytes())
    assert read.comparisons == comparisons and [x.choice for x in read.labels] == [x.choice for x in given]
    if format == "csv":
        assert read.labels == given
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_four_options_become_three_pairs_and_come_back_as_such(tmp_path):
    assert exchange.write(tmp_path / "p.jsonl", "pairs", FOUR[:1], labels(FOUR[:1], [2])) == 3
    records = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert {(r["prompt"], r["chosen"], r["rejected"]) for r in records} == {
        (FOUR[0].query, " c,0.", other) for other in (" a0.", " b\n0.", " d0 é.")
    }
    read = exchange.read(tmp_path / "p.jsonl", "pairs", "sentiment")
    assert [read.comparisons[i].options[x.choice] for i, x in enumerate(read.labels)] == [" c,0."] * 3
    assert exchange.write(tmp_path / "again.jsonl", "pairs", read.comparisons, read.labels) == 3
    assert (tmp_path / "again.jsonl").read_text().replace("imported", "ada") == (tmp_path / "p.jsonl").read_text().replace(
        "imported", "ada"
    )


def test_faults_have_a_line_and_a_reason_and_the_good_ones_can_be_kept(tmp_path):
    good = {"prompt": "p", "first": "a", "second": "b", "choice": "first"}
    file = lines(tmp_path / "x.jsonl", good, "{not json", {"prompt": "p", "first": "a", "choice": "first"}, good | {"choice": 3}, "[1]")
    with pytest.raises(ValueError, match=r"x.jsonl, record 2: .*nothing was read"):
        exchange.read(file, "pairwise", "t")
    read = exchange.read(file, "pairwise", "t", errors="skip")
    assert len(read.comparisons) == len(read.labels) == 1
    assert [f.line for f in read.faults] == [2, 3, 4, 5]
    assert ["'second' is missing", 'choice 3 must be "first" or "second"', "expected an object with named fields"] == [
        f.reason for f in read.faults[1:]
    ]


def test_faulty_rows_of_a_table(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["query", "option_0", "option_1", "choice"],
                ["q", "a", "b", "1"],
                ["q", "a", "b", "2"],
                ["q", "a", "b", "c"],
                ["q", "a", "b", "1", "x"],
            ]
        )
    read = exchange.read(tmp_path / "x.csv", "csv", "t", errors="skip")
    assert len(read.labels) == 1 and [f.line for f in read.faults] == [3, 4, 5]
    assert "2 options" in read.faults[0].reason and "must be an index" in read.faults[1].reason and "not quoted" in read.faults[2].reason


@pytest.mark.parametrize(
    ("content", "message"), [("[{", "download complete"), ("{}", "one JSON array"), ('[{"query": "text"}]', "record 1")]
)
def test_files_that_are_not_openais(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        exchange.read(tmp_path / "x.json", "openai", "t", tokenizer=Bytes())


def test_what_a_format_cannot_hold_is_said_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="pairwise holds two"):
        exchange.write(tmp_path / "x", "pairwise", FOUR, labels(FOUR))
    with pytest.raises(ValueError, match="not among the 0 given"):
        exchange.write(tmp_path / "x", "csv", [], labels(FOUR))
    with pytest.raises(ValueError, match="no format 'xml'"):
        exchange.write(tmp_path / "x", "xml", FOUR, labels(FOUR))
    assert list(tmp_path.iterdir()) == []


def test_datasets_open_with_the_library_and_the_card_counts_honestly(tmp_path):
    datasets = pytest.importorskip("datasets")
    exchange.save_dataset(tmp_path / "out", FOUR, labels(FOUR), licence="mit")
    four = datasets.load_dataset(str(tmp_path / "out"), "comparisons", split="train", cache_dir=str(tmp_path / "cache"))
    pairs = datasets.load_dataset(str(tmp_path / "out"), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert [tuple(o) for o in four["options"]] == [c.options for c in FOUR] and list(four["choice"]) == [1, 0, 1]
    assert len(pairs) == 9 and {"prompt", "chosen", "rejected"} <= set(pairs.column_names)
    assert "3 labels of 3 comparisons: 2 by 1 people,\n1 simulated" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="no labels"):
        exchange.dataset(FOUR, [])


def test_what_was_read_goes_into_a_store_once(tmp_path):
    exchange.write(tmp_path / "x.csv", "csv", FOUR, labels(FOUR))
    read, store = exchange.read(tmp_path / "x.csv", "csv", "sentiment"), LabelStore(tmp_path / "labels.db")
    assert (store.add(read.comparisons), store.add_labels(read.labels)) == (3, 3)
    assert (store.add(read.comparisons), store.add_labels(read.labels)) == (0, 0)
    assert store.labels() == labels(FOUR)
