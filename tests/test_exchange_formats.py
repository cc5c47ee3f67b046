"""Files as the world has them: containers, tables, and the formats of other programs, each named
with the way to read it."""

import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import re
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_helpers.labels import exchange
from rlhf_helpers.labels.exchange import foreign
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label

DOCS = Path(__file__).resolve().parents[1] / "docs" / "labels.md"
PAIRS = [
    {"prompt": "The café was", "chosen": " good \u2028 indeed", "rejected": " bad"},
    {"prompt": "Nobody", "chosen": " knew", "rejected": " slept"},
]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in PAIRS)
ARRAY = json.dumps(PAIRS, indent=2, ensure_ascii=False)
TABLE = 'query,option_0,option_1,choice\nThe café, good," bad, and\nworse",1\nq,a,b,0\n'


def written(read):
    return [(c.query, c.options[x.choice]) for c, x in zip(read.comparisons, read.labels)]


EXPECTED = [("The café was", " good \u2028 indeed"), ("Nobody", " knew")]


@pytest.mark.parametrize("text", [LINES, ARRAY, LINES.replace("\n", "\r\n\r\n")])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_lines_and_arrays_are_read_in_any_encoding_compressed_or_not(
    tmp_path, text, encoding, pack
):
    """A compressed file, one with a byte order mark and an array gave no record at all."""
    file = tmp_path / "pairs"
    file.write_bytes(pack(text.encode(encoding)))
    assert written(exchange.read(file, "pairs", "t")) == EXPECTED
    assert list(exchange.records(file)) == PAIRS


def test_one_record_over_many_lines_and_an_object_that_wraps_the_records(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(json.dumps(PAIRS[0], indent=1))
    assert written(exchange.read(file, "pairs", "t")) == EXPECTED[:1]
    file.write_text(json.dumps({"version": 1, "data": PAIRS}))
    with pytest.raises(ValueError, match="one object that holds the records in a field"):
        exchange.read(file, "pairs", "t", errors="skip")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_with_commas_semicolons_and_tabs(tmp_path, delimiter, encoding):
    """A table with semicolons, as many spreadsheets save it, gave no record."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(csv.reader(io.StringIO(TABLE)))
    file = tmp_path / "x.csv"
    file.write_bytes((text.getvalue() + 3 * delimiter + "\r\n").encode(encoding))
    assert written(exchange.read(file, "csv", "t")) == [
        ("The café", " bad, and\nworse"),
        ("q", "a"),
    ]


def test_the_line_that_tells_excel_the_delimiter_is_no_header(tmp_path):
    (tmp_path / "x.csv").write_text(
        "sep=;\r\nquery;option_0;option_1;choice\r\nq;a;b;1\r\nq;a,b;c\r\n"
    )
    read = exchange.read(tmp_path / "x.csv", "csv", "t", errors="skip")
    assert written(read) == [("q", "b")] and [f.line for f in read.faults] == [4]


def test_more_than_ten_options_of_a_table_keep_their_order(tmp_path):
    asked = [Comparison("t", "q", tuple("abcdefghijkl"), "imported")]
    exchange.write(tmp_path / "x.csv", "csv", asked, [Label(asked[0].id, "ada", 10)])
    read = exchange.read(tmp_path / "x.csv", "csv", "t")
    assert read.comparisons == asked and written(read) == [("q", "k")]


def test_pairs_may_come_as_a_table_and_options_as_json(tmp_path):
    file = tmp_path / "x"
    file.write_text("prompt;chosen;rejected;labeler\nWhy?; So;No;0\n")
    read = exchange.read(file, "pairs", "t")
    assert written(read) == [("Why?", " So")] and read.labels[0].labeler == "0"
    file.write_text('[{"query": "q", "option_0": "a", "option_1": "b", "choice": 1}]')
    assert written(exchange.read(file, "csv", "t")) == [("q", "b")]


def archive(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(name, "x")
    return file.getvalue()


def database():
    base = sqlite3.connect(":memory:")
    base.execute("create table t (x)")
    return base.serialize()


OTHERS = {
    "parquet": (b"PAR1\x15\x04", 'seems to be parquet: .*load_dataset\\("parquet", data_files='),
    "arrow": (b"ARROW1\x00\x00", "seems to be Arrow"),
    "arrow stream": (b"\xff\xff\xff\xff\x70\x01", "seems to be an Arrow stream"),
    "zip": (archive("labels.jsonl"), "a zip archive: unpack it"),
    "xlsx": (archive("xl/workbook.xml"), 'a spreadsheet: save the sheet as "CSV UTF-8"'),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "compressed with zstd: unpack it with `zstd -d`"),
    "sqlite": (database(), 'a SQLite database: .*LabelStore\\("'),
    "pickle": (pickle.dumps(PAIRS), "a pickle: it is not opened"),
    "html": (b"\n<!DOCTYPE html><html></html>", "a web page: download the file itself"),
    "pdf": (b"%PDF-1.7", "a PDF"),
    "hdf5": (b"\x89HDF\r\n", "HDF5"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer.*git lfs pull"),
    "empty": (b"", "x is empty"),
    "blank": (b"\n \n", "x is empty"),
    "empty gzip": (gzip.compress(b""), "x is empty"),
    "cut gzip": (gzip.compress(LINES.encode() * 99)[:60], "damaged or incomplete"),
    "bad gzip": (b"\x1f\x8b\x00\x00 nonsense", "damaged or incomplete"),
    "bad bzip2": (b"BZh9 nonsense", "damaged or incomplete"),
    "bad xz": (b"\xfd7zXZ\x00 nonsense", "damaged or incomplete"),
    "cut array": (ARRAY[:-9].encode(), "was the download complete"),
    "prose": (b"Dear all,\nhere are the labels.\n", "gave no labels: .* first: line 2"),
    "words": (b"Nothing to see here\n", "neither JSON nor a table"),
    "header": (b"query,option_0,option_1,choice\n", "gave no labels: it is empty"),
    "brackets": (b"[]", "gave no labels: it is empty"),
    "numbers": (b"[1, 2]", "the first: record 1: expected an object"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("format", ["pairs", "csv"])
def test_a_file_that_gives_nothing_is_an_error_that_names_what_it_is(tmp_path, kind, format):
    """It was read as no records at all."""
    content, said = OTHERS[kind]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        exchange.read(tmp_path / "x", format, "t", errors="skip")
    with pytest.raises(ValueError):
        exchange.read(tmp_path / "x", format, "t")
    with pytest.raises(ValueError):
        exchange.load(LabelStore(tmp_path / "l.db"), tmp_path / "x", errors="skip")


def test_a_folder_is_named_and_a_missing_file_stays_missing(tmp_path):
    with pytest.raises(ValueError, match="is a folder: name a file in it"):
        exchange.read(tmp_path, "pairs", "t")
    with pytest.raises(ValueError, match="/dev/null is a pipe or a device"):
        exchange.read("/dev/null", "pairs", "t")
    with pytest.raises(FileNotFoundError):
        exchange.read(tmp_path / "none", "pairs", "t")


def test_real_parquet_is_read_as_the_message_says(tmp_path):
    datasets = pytest.importorskip("datasets")
    file = tmp_path / "x.parquet"
    datasets.Dataset.from_list(PAIRS).to_parquet(str(file))
    with pytest.raises(ValueError, match="parquet") as error:
        exchange.read(file, "pairs", "t")
    rows, way = re.findall("`(.*?)`", str(error.value))
    rows = rows.replace(", split", f', cache_dir="{tmp_path / "cache"}", split')
    names = {"datasets": datasets, "exchange": exchange, "task": "t"}
    exec(rows, names)
    assert written(eval(way, names)) == EXPECTED


def test_the_docs_lines_for_data_sets_run_as_they_stand(tmp_path, monkeypatch):
    """They used `datasets` without importing it."""
    datasets = pytest.importorskip("datasets")
    section = DOCS.read_text(encoding="utf-8").partition("### Data sets")[2]
    block = re.search(r"```python\n(.+?)```", section, re.DOTALL)[1]
    row = {"query": "q", "options": ["a", "b"], "choice": 1}
    file = tmp_path / re.search(r'data_files="(.+?)"', block)[1]
    datasets.Dataset.from_list([row]).to_parquet(str(file))
    monkeypatch.chdir(tmp_path)
    names = {"exchange": exchange}
    exec(block.replace(", split", f', cache_dir="{tmp_path / "cache"}", split'), names)
    assert [x.choice for x in names["read"].labels] == [1]


def test_a_damaged_first_line_is_one_fault_and_a_line_in_another_encoding_too(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(
        b'pt": "x"}\n' + LINES.encode() + '{"prompt": "café"}'.encode("latin-1") + b"\n\n[[\n"
    )
    read = exchange.read(file, "pairs", "t", errors="skip")
    assert written(read) == EXPECTED and [f.line for f in read.faults] == [1, 4, 6]
    assert "no JSON" in read.faults[0].reason and "not UTF-8" in read.faults[1].reason
    with pytest.raises(ValueError, match="line 1: the line is no JSON"):
        list(exchange.records(file))


def test_our_own_formats_are_told_apart_and_named(tmp_path):
    asked = [Comparison("t", "q", ("a", "b"))]
    labels = [Label(asked[0].id, "ada", 1)]
    for mine in ("pairs", "pairwise", "csv"):
        exchange.write(tmp_path / mine, mine, asked, labels)
        for other in {"pairs", "pairwise", "csv"} - {mine}:
            with pytest.raises(ValueError, match=f'pass format="{mine}", or --format {mine}'):
                exchange.read(tmp_path / mine, other, "t", errors="skip")
        with pytest.raises(ValueError, match="is not what `export` writes"):
            exchange.load(LabelStore(tmp_path / "l.db"), tmp_path / mine, errors="skip")


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_options_and_choices_counted_from_1_are_refused(tmp_path, errors):
    """With errors="skip" six of eight such records were kept, all of them wrong."""
    file = tmp_path / "x.csv"
    rows = [[f"q{i}", *"abcd", i % 4 + 1] for i in range(8)]
    for header in ("option_0,option_1,option_2,option_3", "option_1,option_2,option_3,option_4"):
        with file.open("w", newline="") as opened:
            opened.write(f"query,{header},choice\n")
            csv.writer(opened).writerows(rows)
        with pytest.raises(ValueError, match="count(ed)? .*from 1"):
            exchange.read(file, "csv", "t", errors=errors)
    many = [{"query": f"q{i}", "options": list("abcd"), "choice": i % 4 + 1} for i in range(8)]
    with pytest.raises(ValueError, match="count(ed)? .*from 1"):
        exchange.from_dataset(many, "t", errors=errors)
    samples = {f"sample{k}": [k] for k in (1, 2)}
    (tmp_path / "x.json").write_text(json.dumps([{"query": [0], "best": 1} | samples]))
    with pytest.raises(ValueError, match="counted from sample1; they must begin with sample0"):
        exchange.read(tmp_path / "x.json", "openai", "t", tokenizer=range(9), errors=errors)


def test_one_choice_too_high_among_choices_from_0_is_one_fault():
    rows = [{"query": f"q{i}", "options": ["a", "b"], "choice": i} for i in range(3)]
    read = exchange.from_dataset(rows, "t", errors="skip")
    assert len(read.labels) == 2 and [f.line for f in read.faults] == [3]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("query,option_0,option_2,choice", "a column is missing: there are option_0, option_2"),
        ("query,option_0,option_b,choice", "'option_b' must be named option_0, option_1"),
        ("query,option_0,option_0,choice", "several columns 'option_0'"),
        ("question,option_0,option_1,choice", "'query' is missing.*fields question, option_0"),
    ],
)
def test_columns_of_other_names_are_named(tmp_path, header, said):
    (tmp_path / "x.csv").write_text(header + "\nq,a,b,1\n")
    with pytest.raises(ValueError, match=said):
        exchange.read(tmp_path / "x.csv", "csv", "t", errors="skip")


def table(path, *texts, name="ada"):
    asked = [Comparison("t", text, (text, f"{text}x", ""), "imported") for text in texts]
    labels = [Label(c.id, name, i % 3, 0.5, 3.0) for i, c in enumerate(asked)]
    exchange.write(path, "csv", asked, labels)
    read = exchange.read(path, "csv", "t")
    assert (read.comparisons, read.labels) == (asked, labels)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_texts_that_a_spreadsheet_would_run_are_harmless_in_the_file_and_read_back(tmp_path):
    starts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''@x", "'quoted'", " =1", "x=1"]
    rows = table(tmp_path / "x.csv", *starts, name="=cmd|' /C calc'!A0")
    assert [row["query"] for row in rows] == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'\tx",
        "'\rx",
        "''=1",
        "'''@x",
        "'quoted'",
        " =1",
        "x=1",
    ]
    cells = [cell for row in rows for name, cell in row.items()]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert rows[0]["labeler"] == "'=cmd|' /C calc'!A0"


def test_an_apostrophe_in_a_table_of_others_is_theirs(tmp_path):
    (tmp_path / "x.csv").write_text("query,option_0,option_1,choice\n'-tis,'@a,b,0\n")
    assert written(exchange.read(tmp_path / "x.csv", "csv", "t")) == [("'-tis", "'@a")]


def test_a_column_options_of_others_is_no_count(tmp_path):
    """Each row failed with "invalid literal for int()"."""
    path = tmp_path / "t.csv"
    path.write_text("query,options,option_0,option_1,option_2,choice\nq,a|b,'=a,b,,1\n")
    (made,) = exchange.read(path, "csv", "t").comparisons
    assert made.options == ("'=a", "b")  # the apostrophe is theirs


def test_fields_in_other_capitals_are_named(tmp_path):
    """It said "'query' is missing" of a table with the column Query."""
    for text, format, said in (
        ("Query,option_0,option_1,choice\nq,a,b,1\n", "csv", "'query' is missing, but there is 'Q"),
        ("query,option_0,option_1,CHOICE\nq,a,b,1\n", "csv", "there is 'CHOICE': rename it"),
        ("Query,Option_0,Option_1,Choice\nq,a,b,1\n", "csv", "'Option_0' must be named option_0"),
        ("prompt,Chosen,Rejected\nq,a,b\n", "pairs", "'chosen' is missing, but there is 'Chosen'"),
        ("prompt,first,other\nq,a,b\n", "pairs", "'chosen' is missing;"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(ValueError, match=said):
            exchange.read(tmp_path / "t.csv", format, "t")


def test_long_texts_lines_quotes_and_nul_come_back(tmp_path):
    """The csv module takes 131,072 letters of a field unless told otherwise."""
    texts = [200_000 * "long ", 'a "b"\r\n, c\n\n;', "\u2028 é 👩‍🚀", '"', "\\", "a\0b", "\0"]
    table(tmp_path / "x.csv", *texts)


LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    LETTERS,
    st.lists(LETTERS, min_size=2, max_size=4).filter(lambda x: len({o.strip() for o in x}) > 1),
    st.data(),
)
def test_whatever_is_written_is_read_back(tmp_path_factory, query, options, data):
    file = tmp_path_factory.getbasetemp() / "any"
    asked = [Comparison("t", query, tuple(options), "imported")]
    labels = [Label(asked[0].id, "ada", data.draw(st.integers(0, len(options) - 1)), 0.1, 7.0)]
    for format in ("csv", *(["pairwise"] if len(options) == 2 else [])):
        exchange.write(file, format, asked, labels)
        read = exchange.read(file, format, "t")
        assert (read.comparisons, read.labels) == (asked, labels), format


def test_exchange_needs_none_of_the_notebooks_packages():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pandas', 'pyarrow', 'datasets']))\n"
        "from rlhf_helpers.labels import exchange\n"
        "rows = [{'prompt': 'p', 'chosen': 'a', 'rejected': 'b'}]\n"
        "assert exchange.from_dataset(rows, 't').labels"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- other programs ------------------------------------------------------------------------------


def shapes():
    """Small files made by hand in the published field names, and what they say."""
    pair = {"data": {"prompt": "P", "answer1": "one", "answer2": "two"}}
    result = [{"type": "pairwise", "from_name": "pw", "value": {"selected": "right"}}]
    answer = {
        "result": result,
        "completed_by": 0,
        "was_cancelled": False,
        "lead_time": 2.5,
        "created_at": "2024-05-01T10:00:00.000000Z",
    }
    label_studio = [
        {"id": 1, "annotations": [answer, answer | {"was_cancelled": True}]} | pair,
        {"id": 2, "annotations": [answer | {"completed_by": 7, "result": []}]} | pair,
    ]
    fields = {"prompt": "P", "response_1": "one", "response_2": "two"}
    argilla = [
        {
            "id": "a",
            "status": "completed",
            "fields": fields,
            "metadata": {},
            "suggestions": {},
            "vectors": {},
            "responses": {"preference": [{"value": "response_2", "user_id": "u1"}]},
        },
        {
            "id": "b",
            "status": "pending",
            "fields": fields,
            "metadata": {},
            "suggestions": {},
            "vectors": {},
            "responses": {},
        },
    ]
    prodigy = {
        "text": "P",
        "options": [{"id": 7, "text": "one"}, {"id": 8, "text": "two"}],
        "accept": [8],
        "answer": "accept",
        "_annotator_id": "set-ada",
        "_session_id": "set-ada",
        "_timestamp": 1714557600,
    }
    shp = {
        "post_id": "x",
        "domain": "askculinary_train",
        "history": "P",
        "human_ref_A": "one",
        "human_ref_B": "two",
        "labels": 0,
        "score_A": 1,
        "score_B": 9,
    }
    webgpt = {
        "question": {"dataset": "eli5", "id": "x", "full_text": "P"},
        "quotes_0": {},
        "quotes_1": {},
        "answer_0": "one",
        "answer_1": "two",
        "tokens_0": {},
        "tokens_1": {},
        "score_0": -0.5,
        "score_1": 0.5,
    }
    summaries = {
        "info": {"id": "t3", "post": "P", "title": "T"},
        "summaries": [{"text": "one", "policy": "sup"}, {"text": "two", "policy": "ref"}],
        "choice": 1,
        "worker": "w",
        "batch": "b",
        "split": "train",
    }
    sharegpt = {
        "conversations": [{"from": "human", "value": "P"}],
        "chosen": {"from": "gpt", "value": "two"},
        "rejected": {"from": "gpt", "value": "one"},
    }
    nested = {"prompt": "P", "responses": ["one", "two"]}
    return {
        "rows with a list of options": [{"query": "P", "options": ["one", "two"], "choice": 1}],
        "Label Studio": label_studio,
        "Argilla": argilla,
        "Prodigy": [prodigy, prodigy | {"answer": "ignore"}, prodigy | {"accept": []}],
        "SHP": [shp],
        "WebGPT comparisons": [webgpt, webgpt | {"score_0": 0.0, "score_1": 0.0}],
        "summarize_from_feedback": [summaries],
        "ShareGPT": [sharegpt],
        "a nested comparison set with scores": [
            nested | {"scores": [2, 7]},
            nested | {"scores": [7, 7]},
        ],
        "a nested comparison set of objects": [
            {
                "prompt": "P",
                "responses": [{"text": "one", "score": 1.5}, {"text": "two", "score": 4}],
            }
        ],
        "a nested comparison set with a ranking": [nested | {"ranking": [1, 0]}],
        "one object that holds the records in a field": [
            {"version": 2, "data": [{"query": "P", "options": ["one", "two"], "choice": 1}]}
        ],
    }


def recipes():
    """The blocks of code in the docs, by the heading above them."""
    section = DOCS.read_text(encoding="utf-8").partition("### Files of other programs")[2]
    return dict(re.findall(r"#### (.+?)\n.*?```python\n(.+?)\n```", section, re.DOTALL))


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("format", ["pairs", "pairwise", "csv"])
def test_a_format_of_others_is_named_and_the_recipe_in_the_docs_reads_it(tmp_path, name, format):
    file = tmp_path / "x.json"
    file.write_text(json.dumps(shapes()[name]))
    with pytest.raises(ValueError, match=f"x.json: this seems to be {name}") as error:
        exchange.read(file, format, "sentiment", errors="skip")
    heading = name[0].upper() + name[1:]
    recipe = recipes()[heading.replace("A nested", "Nested")]
    recipe = recipe.replace("FILE", str(file)).replace("TASK", "sentiment")
    lines = str(error.value).partition("\n\n")[2]
    assert ast.dump(ast.parse(lines)) == ast.dump(ast.parse(recipe))  # but for the line breaks
    names = {"exchange": exchange}
    exec(recipe, names)
    read = names["read"]
    assert [(c.task, c.query, set(c.options)) for c in read.comparisons] == [
        ("sentiment", "P", {"one", "two"})
    ]
    assert written(read) == [("P", "two")]
    who, created = {
        "Label Studio": ("0", 1714557600.0),
        "Prodigy": ("set-ada", 1714557600.0),
        "Argilla": ("u1", 0.0),
        "summarize_from_feedback": ("w", 0.0),
    }.get(name, ("imported", 0.0))
    assert (read.labels[0].labeler, read.labels[0].created) == (who, created)
    if name == "Label Studio":
        assert read.labels[0].seconds == 2.5


def test_every_recipe_of_the_docs_is_tested_and_every_known_format_is_in_the_docs():
    headings = {s.name for s in foreign.SHAPES} - {"a label store's own export"}
    assert headings == set(shapes()) and len(recipes()) == len(foreign.SHAPES)


def test_a_stores_own_export_is_named_and_the_recipe_loads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LabelStore(tmp_path / "mine.db")
    store.add([Comparison("t", "q", ("a", "b"))])
    exchange.export(store, tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match="a label store's own export") as error:
        exchange.read("x.jsonl", "pairs", "t", errors="skip")
    exec(str(error.value).splitlines()[-1], {"exchange": exchange, "LabelStore": LabelStore})
    assert LabelStore("labels.db").comparisons() == store.comparisons()


def test_rows_of_another_data_set_are_named_too():
    with pytest.raises(ValueError, match="this seems to be SHP"):
        exchange.from_dataset(shapes()["SHP"], "t", errors="skip")


def test_other_programs_formats_are_no_faults_of_a_damaged_file_of_ours(tmp_path):
    """One record that lacks a field is a fault, and the rest is read."""
    file = tmp_path / "x"
    messages = [{"role": "user", "content": "Hi"}]
    bad = [
        {"prompt": messages, "chosen": messages},
        {"prompt": "p"},
        {"prompt": "p", "chosen": "a"},
    ]
    for first in bad:
        file.write_text(json.dumps(first) + "\n" + LINES)
        read = exchange.read(file, "pairs", "t", errors="skip")
        assert written(read) == EXPECTED and [f.line for f in read.faults] == [1]
