"""Formats of others: files written by hand are read, what is written is read back, faults have a
place and a reason."""

import csv
import dataclasses
import itertools
import json
import math
import time
from datetime import datetime

import pytest

from rlhf_helpers.labels import exchange
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label

FOUR = [
    Comparison(
        "sentiment",
        'She said "no", then',
        (f" a{i}.", f" b\n{i}.", f" c,{i}.", f" d{i} é."),
        "imported",
    )
    for i in range(3)
]
TWO = [
    Comparison("sentiment", f"prompt {i}", (f" left {i}", f" right {i}"), "imported")
    for i in range(3)
]


def labels(comparisons, choices=(1, 0, 1)):
    return [
        Label(c.id, "ada", k, 1.5, 20.0, simulated=k == 0)
        for c, k in zip(comparisons, choices, strict=True)
    ]


class Bytes:
    """A tokenizer by duck typing: one byte, one token."""

    def __len__(self):
        return 256

    def __call__(self, text, add_special_tokens=True, verbose=True):
        return {"input_ids": list(text.encode())}

    def batch_decode(self, rows):
        return [bytes(row).decode() for row in rows]


def lines(path, *records):
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records),
        encoding="utf-8",
    )
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


def test_more_than_ten_samples_of_the_openai_format_keep_their_order(tmp_path):
    """Sorted as text, sample10 stood before sample2, and the best was another."""
    record = {"query": [72], "best": 2} | {f"sample{i}": [97 + i] for i in range(12)}
    (tmp_path / "x.json").write_text(json.dumps([dict(sorted(record.items()))]))
    read = exchange.read(tmp_path / "x.json", "openai", "t", tokenizer=Bytes())
    assert read.comparisons[0].options == tuple("abcdefghijkl")


def user(text):
    return [{"role": "user", "content": text}]


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("record", "query", "texts"),
    [
        ({"prompt": "P", "chosen": " good", "rejected": " bad"}, "P", (" good", " bad")),
        (
            {"chosen": "The day was good", "rejected": "The day was grim"},
            "The day was",
            (" good", " grim"),
        ),
        (
            {"prompt": user("Hi"), "chosen": said("Yes"), "rejected": said("No")},
            "Hi",
            ("Yes", "No"),
        ),
        (
            {"chosen": user("Hi") + said("Yes"), "rejected": user("Hi") + said("No")},
            "Hi",
            ("Yes", "No"),
        ),
    ],
)
def test_pairs_of_preference_libraries(tmp_path, record, query, texts):
    read = exchange.read(lines(tmp_path / "pairs.jsonl", record), "pairs", "sentiment")
    (comparison,), (label,) = read.comparisons, read.labels
    assert (
        comparison.query == query
        and comparison.options[label.choice] == texts[0]
        and set(comparison.options) == set(texts)
    )


def test_the_chosen_one_is_not_always_on_the_same_side(tmp_path):
    file = lines(
        tmp_path / "p.jsonl",
        *({"prompt": f"{i}", "chosen": "a", "rejected": "b"} for i in range(40)),
    )
    assert {label.choice for label in exchange.read(file, "pairs", "t").labels} == {0, 1}


@pytest.mark.parametrize(
    ("format", "comparisons"), [("csv", FOUR), ("csv", TWO), ("pairwise", TWO), ("openai", FOUR)]
)
def test_what_is_written_is_read_back(tmp_path, format, comparisons):
    given = labels(comparisons)
    assert exchange.write(tmp_path / "out", format, comparisons, given, tokenizer=Bytes()) == 3
    read = exchange.read(tmp_path / "out", format, "sentiment", labeler="ada", tokenizer=Bytes())
    assert read.comparisons == comparisons and [x.choice for x in read.labels] == [
        x.choice for x in given
    ]
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
    assert [read.comparisons[i].options[x.choice] for i, x in enumerate(read.labels)] == [
        " c,0."
    ] * 3
    assert exchange.write(tmp_path / "again.jsonl", "pairs", read.comparisons, read.labels) == 3
    assert (tmp_path / "again.jsonl").read_text().replace("imported", "ada") == (
        tmp_path / "p.jsonl"
    ).read_text().replace("imported", "ada")


def test_faults_have_a_line_and_a_reason_and_the_good_ones_can_be_kept(tmp_path):
    good = {"prompt": "p", "first": "a", "second": "b", "choice": "first"}
    file = lines(
        tmp_path / "x.jsonl",
        good,
        "{not json",
        {"prompt": "p", "first": "a", "choice": "first"},
        good | {"choice": 3},
        "[1]",
    )
    with pytest.raises(ValueError, match=r"x.jsonl, line 2: .*nothing was read"):
        exchange.read(file, "pairwise", "t")
    read = exchange.read(file, "pairwise", "t", errors="skip")
    assert len(read.comparisons) == len(read.labels) == 1
    assert [f.line for f in read.faults] == [2, 3, 4, 5]
    assert [
        "'second' is missing",
        'choice 3 must be "first" or "second"',
        "expected an object with named fields",
    ] == [f.reason for f in read.faults[1:]]


def test_faulty_rows_of_a_table(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["query", "option_0", "option_1", "choice"],
                ["q", "a", "b", "0"],
                ["q", "a", "b", "2"],
                ["q", "a", "b", "c"],
                ["q", "a", "b", "1", "x"],
            ]
        )
    read = exchange.read(tmp_path / "x.csv", "csv", "t", errors="skip")
    assert len(read.labels) == 1 and [f.line for f in read.faults] == [3, 4, 5]
    assert (
        "2 options" in read.faults[0].reason
        and "must be an index" in read.faults[1].reason
        and "not quoted" in read.faults[2].reason
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "download complete"),
        ("{}", "'query' is missing"),
        ('[{"query": "text"}]', "record 1"),
    ],
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
    four = datasets.load_dataset(
        str(tmp_path / "out"), "comparisons", split="train", cache_dir=str(tmp_path / "cache")
    )
    pairs = datasets.load_dataset(
        str(tmp_path / "out"), "pairs", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [tuple(o) for o in four["options"]] == [c.options for c in FOUR] and list(
        four["choice"]
    ) == [1, 0, 1]
    assert len(pairs) == 9 and {"prompt", "chosen", "rejected"} <= set(pairs.column_names)
    assert (
        "3 labels of 3 comparisons: 2 by\n1 people, 1 simulated"
        in (tmp_path / "out" / "README.md").read_text()
    )
    with pytest.raises(ValueError, match="no labels"):
        exchange.dataset(FOUR, [])


def test_what_was_read_goes_into_a_store_once(tmp_path):
    exchange.write(tmp_path / "x.csv", "csv", FOUR, labels(FOUR))
    read, store = (
        exchange.read(tmp_path / "x.csv", "csv", "sentiment"),
        LabelStore(tmp_path / "labels.db"),
    )
    assert (store.add(read.comparisons), store.add_labels(read.labels)) == (3, 3)
    assert (store.add(read.comparisons), store.add_labels(read.labels)) == (0, 0)
    assert store.labels() == labels(FOUR)


def test_everything_of_a_comparison_comes_back(tmp_path):
    mixed = [
        Comparison("sentiment", "two", ("a", ""), "m", 3),
        Comparison("sentiment", "four", ("", "b", "c", ""), "m", 1),
    ]
    given = [Label(c.id, "ada", 1, 1.5, 20.0) for c in mixed]
    for format, some in (("csv", mixed), ("pairwise", mixed[:1])):
        exchange.write(tmp_path / "x", format, some, given[: len(some)])
        read = exchange.read(tmp_path / "x", format, "sentiment")
        assert (read.comparisons, read.labels) == (some, given[: len(some)]), format


def test_a_real_tokenizer_of_bytes_gives_back_the_text_of_the_openai_format(tmp_path):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [c.query + "".join(c.options) for c in FOUR], vocab_size=300, min_frequency=1
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer)
    exchange.write(tmp_path / "x.json", "openai", FOUR, labels(FOUR), tokenizer=tokenizer)
    assert (
        exchange.read(tmp_path / "x.json", "openai", "sentiment", tokenizer=tokenizer).comparisons
        == FOUR
    )
    (tmp_path / "y.json").write_text(
        json.dumps(
            [
                {"query": [1], "sample0": [2], "sample1": [50_258], "best": 0},
                {"query": [1], "sample0": [2], "sample1": [3], "best": 0},
            ]
        )
    )
    read = exchange.read(tmp_path / "y.json", "openai", "t", tokenizer=tokenizer, errors="skip")
    assert (
        len(read.labels) == 1
        and "token id 50258 is not in this tokenizer's vocabulary of" in read.faults[0].reason
    )


def test_labels_without_a_name_are_of_different_people_and_nobody_contradicts_himself(tmp_path):
    pair = {"prompt": "p", "first": "a", "second": "b"}
    file = lines(
        tmp_path / "x",
        pair | {"choice": "first"},
        pair | {"choice": "second"},
        pair | {"choice": "first", "labeler": "ada"},
        pair | {"choice": "second", "labeler": "ada"},
        pair | {"choice": "first", "labeler": "ada"},
    )
    read = exchange.read(file, "pairwise", "t", errors="skip")
    assert [(x.labeler, x.choice) for x in read.labels] == [
        ("imported", 0),
        ("imported 2", 1),
        ("ada", 0),
    ]
    (fault,) = read.faults
    assert (
        fault.line == 4
        and "ada chose option 0 of the same comparison further up, and 1 here" in fault.reason
    )


def test_a_quote_that_never_ends_and_bytes_that_are_no_text_are_faults_with_a_line(tmp_path):
    good = b"q,a,b,1\r\n"
    (tmp_path / "x.csv").write_bytes(
        b"query,option_0,option_1,choice\r\n"
        + good
        + b"q2,\xff\xfe,b,1\r\n"
        + good
        + b'q3,"a,b,1\r\n'
        + good
    )
    read = exchange.read(tmp_path / "x.csv", "csv", "t", errors="skip")
    assert len(read.labels) == 2 and [f.line for f in read.faults] == [3, 5]
    assert "not UTF-8" in read.faults[0].reason and "is a quote missing" in read.faults[1].reason


def test_what_cannot_be_parsed_never_escapes_as_another_error(tmp_path):
    junk = [None, True, 3, "x", [], {}, [[]], {"content": 1}, float("nan"), "\ud800"]
    names = {"pairs": ("prompt", "chosen", "rejected"), "pairwise": ("prompt", "first", "second")}
    for format, fields in names.items():
        good = dict(zip(fields, ("p", "a", "b"))) | {"choice": "first"}
        records = [
            dict(zip(fields, values)) | {"choice": values[1]}
            for values in itertools.product(junk, repeat=3)
        ]
        file = lines(tmp_path / "x", good, *records)
        read = exchange.read(file, format, "t", errors="skip")
        assert len(read.faults) > 900 and all(f.reason for f in read.faults)
    with pytest.raises(ValueError, match='use "raise"'):
        exchange.read(file, "pairs", "t", errors="ignore")


ROW = {"query": "q", "options": ["a", "b"], "choice": 0}


@pytest.fixture
def far_away(monkeypatch):
    """A machine in another zone than the one where times are counted."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def label(**more):
    (made,) = exchange.from_dataset([ROW | more], "t").labels
    return made


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (0, "0"),
        ("0", "0"),
        (7.0, "7"),
        ("ada", "ada"),
        (None, "imported"),
        (" ", "imported"),
        (math.nan, "imported"),
    ],
)
def test_labeler_0_is_a_labeler(given, name):
    """It was taken for no name, and its labels for those of different people."""
    assert label(labeler=given).labeler == name
    other = {"options": ["a", "b"], "choice": 1, "labeler": given}
    read = exchange.from_dataset([ROW | {"labeler": given}, ROW | other], "t", errors="skip")
    assert len(read.labels) == (2 if name == "imported" else 1)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1714557600, 1714557600.0),
        ("1714557600.5", 1714557600.5),
        (1714557600500, 1714557600.5),
        ("1714557600500", 1714557600.5),
        ("1.7e9", 1.7e9),
        ("2024-05-01T10:00:00Z", 1714557600.0),
        ("2024-05-01T10:00:00.500000", 1714557600.5),
        ("2024-05-01 12:00:00+02:00", 1714557600.0),
        ("2024-05-01", 1714521600.0),
        ("20240501", 1714521600.0),  # was a day of 1970
        (20240501, 1714521600.0),
        ("20240501T100000Z", 1714557600.0),
        (datetime(2024, 5, 1, 10), 1714557600.0),
        (None, 0.0),
        ("", 0.0),
        (math.nan, 0.0),
    ],
)
def test_times_may_be_iso_dates_and_milliseconds(given, seconds, far_away):
    assert label(created=given).created == seconds


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"created": "yesterday"}, "created must be a number, got 'yesterday'"),
        ({"created": [1]}, "created must be a number"),
        ({"created": True}, "created must be a number, got 'True'"),  # was one second
        ({"seconds": False}, "seconds must be a number, got 'False'"),
        ({"created": "20241301"}, "created '20241301' has 8 digits, but is no date"),
        ({"created": 1e17}, "created must be a number from 0"),
        ({"seconds": "1,5"}, "seconds must be a number, got '1,5'"),
        ({"labeler": ["ada"]}, "labeler must be a name"),
        ({"simulated": "perhaps"}, "simulated must be true or false, got 'perhaps'"),
        ({"options": ["a", "\ud800"]}, "not Unicode text"),
    ],
)
def test_fields_that_make_no_sense_are_faults(more, said):
    read = exchange.from_dataset([ROW, ROW | more], "t", errors="skip")
    assert len(read.labels) == 1 and said in read.faults[0].reason


@pytest.mark.parametrize(
    ("given", "truth"),
    [
        (True, True),
        ("TRUE", True),
        (1, True),
        ("0", False),
        (False, False),
        (None, None),
        ("", None),
    ],
)
def test_a_label_is_simulated_if_its_record_or_else_the_caller_says_so(given, truth):
    """An empty cell made a simulated label a person's."""
    for default in (True, False):
        (made,) = exchange.from_dataset([ROW | {"simulated": given}], "t", simulated=default).labels
        assert made.simulated is (default if truth is None else truth)


def test_comparisons_of_equal_texts_are_not_written_and_counted_on_reading(tmp_path):
    """They teach nothing, and half of them counted as mistakes of the model."""
    rows = [ROW, ROW | {"options": ["a", " a "]}, ROW | {"options": ["b", "b", "b"]}]
    read = exchange.from_dataset(rows, "t")
    assert read.equal == 2 and len(read.comparisons) == len(read.labels) == 1
    pairs = [{"prompt": "p", "chosen": "a", "rejected": "a"}, {"chosen": "x y", "rejected": "x y"}]
    file = lines(tmp_path / "p.jsonl", *pairs, {"prompt": "p", "chosen": "a", "rejected": "b"})
    assert exchange.read(file, "pairs", "t").equal == 2
    with pytest.raises(ValueError, match="all 2 comparisons are of equal texts"):
        exchange.read(lines(file, *pairs), "pairs", "t", errors="skip")
    mixed = [Comparison("t", "q", o) for o in (("a", "a "), ("a", "b", " a"), ("c", "d"))]
    given = [Label(c.id, "ada", 0) for c in mixed]
    assert exchange.write(tmp_path / "x", "csv", mixed, given) == 2
    assert exchange.write(tmp_path / "x", "pairs", mixed, given) == 2
    for written in (tmp_path / "y", tmp_path / "z"):
        with pytest.raises(ValueError, match="no labels to write yet, or none of options"):
            exchange.write(written, "csv", mixed[:1], given[:1] if written.name == "y" else [])
        assert not written.exists()


def test_what_does_not_fit_is_a_fault_of_its_line(tmp_path):
    def fits(comparison):
        if len(comparison.query) > 3:
            raise ValueError("too long for the model")

    pair = {"first": "a", "second": "b", "choice": "first"}
    file = lines(tmp_path / "x", *(pair | {"prompt": p} for p in ("one", "three", "two", "four")))
    read = exchange.read(file, "pairwise", "t", errors="skip", fits=fits)
    assert [(f.line, f.reason) for f in read.faults] == [
        (2, "too long for the model"),
        (4, "too long for the model"),
    ]
    with pytest.raises(ValueError, match="line 2: too long for the model; nothing was read"):
        exchange.read(file, "pairwise", "t", fits=fits)


def test_a_tokenizer_that_does_not_give_the_text_back_writes_no_ids(tmp_path):
    class Lower(Bytes):
        def __call__(self, text, add_special_tokens=True, verbose=True):
            return super().__call__(text.lower())

    class Padding(Bytes):
        def __call__(self, text, add_special_tokens=True, verbose=True):
            return {"input_ids": [50_259] if text == " a0." else list(text.encode())}

        def batch_decode(self, rows):
            return [" a0." if row == [50_259] else bytes(row).decode() for row in rows]

    for tokenizer in (Lower(), Padding()):
        with pytest.raises(ValueError, match="does not give 'She said .* back as they were"):
            exchange.write(tmp_path / "x", "openai", FOUR, labels(FOUR), tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_datasets_of_both_forms_are_read_back():
    pytest.importorskip("datasets")
    read = exchange.from_dataset(exchange.dataset(FOUR, labels(FOUR)))
    assert (read.comparisons, read.labels) == (FOUR, labels(FOUR))
    pairs = exchange.from_dataset(exchange.dataset(FOUR, labels(FOUR), pairs=True), "sentiment")
    assert [c.options[x.choice] for c, x in zip(pairs.comparisons, pairs.labels, strict=True)] == [
        FOUR[i].options[k] for i, k in enumerate((1, 0, 1)) for _ in range(3)
    ]
    bad = [
        {"task": "t", "query": "q", "options": ["a", "b"], "choice": 2},
        {"task": "t", "query": "q", "options": ["a", "b"], "choice": 0},
    ]
    assert [f.line for f in exchange.from_dataset(bad, errors="skip").faults] == [1]
    with pytest.raises(ValueError, match="the data set, record 1: choice 2.*nothing was read"):
        exchange.from_dataset(bad)


def test_verdicts_of_judging_never_become_labels_of_the_task(tmp_path):
    """A store's labels, written without a task and read back, had its verdicts among them."""
    judged = [Comparison("sentiment-judging", *c[1:]) for c in map(dataclasses.astuple, TWO)]
    asked, given = TWO[:2] + judged, labels(TWO[:2], (1, 0)) + labels(judged)
    for format in ("openai", "pairs", "pairwise", "csv"):
        with pytest.raises(ValueError, match=r"several tasks \(sentiment, sentiment-judging\)"):
            exchange.write(tmp_path / "x", format, asked, given, tokenizer=Bytes())
    assert not (tmp_path / "x").exists()
    of = {"prompt": "p", "chosen": "a", "rejected": "b"}
    tasks = ["sentiment", "sentiment-judging", None, "", "sentiment-judging"]
    rows = [of | {"task": task, "prompt": f"p {n}"} for n, task in enumerate(tasks)]
    file = lines(tmp_path / "pairs.jsonl", *rows)
    for read in (
        exchange.read(file, "pairs", "sentiment"),
        exchange.from_dataset(rows, "sentiment"),
    ):
        assert [c.query for c in read.comparisons] == ["p 0", "p 2", "p 3"]
        assert {c.task for c in read.comparisons} == {"sentiment"} and len(read.labels) == 3
        assert read.other_tasks == 2 and read.faults == []
    with pytest.raises(ValueError, match="2 records name another task than 'sentiment'"):
        exchange.from_dataset([rows[1], rows[4]], "sentiment")
    whole = exchange.from_dataset([rows[0], rows[1]])  # without a task, each row has its own
    assert [c.task for c in whole.comparisons] == tasks[:2] and whole.other_tasks == 0
