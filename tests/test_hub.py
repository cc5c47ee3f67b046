"""The paper's texts and labels: each set from a small file of ours in the published columns,
prepared by rules worked by hand."""

import json

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers import models as parts
from transformers import PreTrainedTokenizerFast

from rlhf_helpers import hub, tasks
from rlhf_helpers.labels import exchange

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")
from pyarrow import parquet  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # five seconds after each shuffled stream
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    datasets.disable_progress_bars()


@pytest.fixture
def words():
    """One token per word, full stop or line break, as far as the rules are concerned like
    GPT-2's."""
    raw = Tokenizer(parts.WordLevel({"?": 0, ".": 1, "\n": 2}, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\n|\.| "), "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="?")


def copy_of(tmp_path, name, columns, file="train-00000-of-00001.parquet"):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), folder / file)
    return folder


# The columns as published on the Hub (dataset cards and viewers of the repositories named in
# `hub.SOURCES`).
PUBLISHED = {
    "bookcorpus": {"text": [f"sentence number {i} , he said ." for i in range(40)]},
    "cnndm": {
        "article": ["LONDON, England (Reuters) -- The harbour is shut. Boats wait outside. "
                    "Nobody knows why.", "One line.\nAnother line."],
        "highlights": ["Harbour shut .\nBoats wait .", "Lines ."], "id": ["a1", "b2"],
    },
    "tldr": {
        "author": ["x", "y"], "body": ["whole post tl;dr short", "b"],
        "normalizedBody": ["n", "n"], "subreddit": ["AskReddit", "pets"],
        "subreddit_id": ["t5_1", "t5_2"], "id": ["1", "2"],
        "content": [" My cat ran away.", "My dog came back. "], "summary": ["cat", "dog"],
    },
    "imdb": {"text": ["Great.<br /><br />I liked it.", "Bad film."], "label": [1, 0]},
}  # fmt: skip
PREPARED = {
    "cnndm": {
        "The harbour is shut.\nBoats wait outside.\nNobody knows why.",
        "One line.\nAnother line.",
    },
    "tldr": {"My cat ran away.", "My dog came back."},
    "imdb": {"Great. I liked it.", "Bad film."},
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", PREPARED)
def test_a_published_row_becomes_a_prepared_text(tmp_path, name, streaming):
    folder = copy_of(tmp_path, name, PUBLISHED[name])
    splits = ["train"] if hub.SOURCES[name].has_test else ["train", "test"]
    assert {
        text
        for split in splits
        for text in hub.texts(name, split, data_dir=folder, streaming=streaming)
    } == PREPARED[name]
    assert set(hub.load(name, data_dir=folder, streaming=streaming).column_names) == set(
        PUBLISHED[name]
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_sentences_of_books_are_joined_in_their_order_before_anything_is_shuffled(
    tmp_path, streaming
):
    folder = copy_of(tmp_path, "books", PUBLISHED["bookcorpus"])
    passages = [
        text
        for split in ("train", "test")
        for text in hub.texts("bookcorpus", split, data_dir=folder, streaming=streaming)
    ]
    assert len(passages) == 3
    for passage in passages:
        first = int(passage.split()[2].rstrip(","))
        assert (
            passage.startswith(
                f"sentence number {first}, he said. sentence number {first + 1}, he said."
            )
            and first % 16 == 0
        )


@pytest.mark.parametrize("streaming", [False, True])
def test_the_order_is_that_of_the_seed(tmp_path, streaming):
    folder = copy_of(tmp_path, "imdb", {"text": [str(i) for i in range(50)], "label": [0] * 50})
    first, again, other = (
        list(hub.texts("imdb", data_dir=folder, streaming=streaming, seed=s)) for s in (1, 1, 2)
    )
    assert first == again != other and sorted(first) == sorted(other) == sorted(
        str(i) for i in range(50)
    )


def test_a_set_without_a_test_split_keeps_one_text_in_twenty_for_it(tmp_path):
    posts = [f"post number {i}" for i in range(2_000)]
    folder = copy_of(tmp_path, "tldr", {"content": posts, "summary": ["x"] * 2_000})
    train, test = (set(hub.texts("tldr", split, data_dir=folder)) for split in ("train", "test"))
    assert not train & test and train | test == set(posts) and 60 < len(test) < 140


@pytest.mark.parametrize("given, wanted", [
    ("he did n't , `` stop '' .", "he didn't, \" stop \"."),
    ("what 's that ( a cat ) ?", "what's that (a cat)?"),
    ("no change.", "no change."),
])  # fmt: skip
def test_spaces_before_punctuation_are_undone(given, wanted):
    assert hub.detokenized(given) == wanted


def test_prompts_are_cut_as_in_the_paper(tmp_path, words):
    texts = ["skip this . keep one two . three four five six", "no stop here at all", "a . b ."]
    folder = copy_of(tmp_path, "imdb", {"text": texts, "label": [0, 0, 0]})
    task = tasks.Task("sentiment", "imdb", 6, 5, ".", 2, start_text=".", end_text=".")
    decoded = []
    for text in texts:
        ids = tasks.prompt_ids(task, text, words)
        decoded.append(None if ids is None else len(ids))
    assert decoded == [4, None, 2]  # "keep one two ." inside six tokens; skipped; "b ."
    batch = hub.queries(task, words, 2, data_dir=folder, streaming=False)
    assert batch.tokens.shape == (2, 4) and sorted(batch.mask.sum(-1).tolist()) == [2, 4]
    with pytest.raises(ValueError, match="gives 2 prompts for sentiment, but 3 are wanted"):
        hub.queries(task, words, 3, data_dir=folder, streaming=False)


def test_articles_end_with_a_line_and_have_prefix_and_suffix(tmp_path, words):
    task = tasks.Task(
        "cnndm", "cnndm", 12, 5, "\n", 2, end_text="\n", prefix="Article:\n\n", suffix="\n\nTL;DR:"
    )
    batch = hub.queries(task, words, 2, data_dir=copy_of(tmp_path, "cnndm", PUBLISHED["cnndm"]))
    # "The harbour is shut . \n Boats wait outside . \n": 11 tokens; "One line . \n": 4; prefix 3,
    # suffix 3.
    assert sorted(batch.mask.sum(-1).tolist()) == [10, 17]
    rows = [row[keep].tolist() for row, keep in zip(batch.tokens, batch.mask)]
    assert all(row[:3] == [0, 2, 2] and row[-4:] == [2, 2, 2, 0] for row in rows)


@pytest.mark.parametrize("name", tasks.PAPER)
def test_every_task_of_the_paper_has_its_texts_and_labels(name):
    assert tasks.PAPER[name].dataset in hub.SOURCES and name in hub.LABEL_FILES


def test_other_splits_and_file_types_are_found(tmp_path):
    folder = tmp_path / "imdb"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"text": "train", "label": 0}) + "\n")
    (folder / "test.jsonl").write_text(json.dumps({"text": "test", "label": 1}) + "\n")
    assert list(hub.texts("imdb", "test", data_dir=folder)) == ["test"]
    with pytest.raises(ValueError, match="no split 'validation'"):
        hub.load("imdb", "validation", data_dir=folder)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_one_folder_holds_texts_and_labels(tmp_path, words, kind, streaming):
    """Labels are JSON too, and were taken for texts."""
    if kind == "parquet":
        copy_of(tmp_path, "imdb", PUBLISHED["imdb"])
    else:
        (tmp_path / "imdb").mkdir()
        rows = [dict(zip(PUBLISHED["imdb"], row)) for row in zip(*PUBLISHED["imdb"].values())]
        (tmp_path / "imdb" / "train.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    (tmp_path / "sentiment").mkdir()
    record = {"query": [1], "best": 0} | {f"sample{i}": [i % 3] for i in range(4)}
    (tmp_path / "sentiment" / "offline_5k.json").write_text(json.dumps([record]))
    assert set(hub.texts("imdb", data_dir=tmp_path, streaming=streaming)) == PREPARED["imdb"]
    assert (
        len(
            exchange.read(
                hub.labels_file("sentiment", tmp_path),
                "openai",
                "sentiment",
                tokenizer=words,
                errors="skip",
            ).labels
        )
        == 1
    )


def test_another_repository_can_be_named(tmp_path, words):
    # a folder stands for one on the Hub
    other = str(copy_of(tmp_path, "mirror", PUBLISHED["cnndm"]))
    assert set(hub.texts("cnndm", repo=other)) == PREPARED["cnndm"]
    task = tasks.Task("cnndm", "cnndm", 12, 5, "\n", 2, end_text="\n")
    assert len(hub.queries(task, words, 2, repo=other)) == 2


# ---- what goes wrong -----------------------------------------------------------------------------


def test_other_columns_are_listed(tmp_path):
    folder = copy_of(tmp_path, "imdb", {"review": ["x"], "label": [1]})
    for streaming in (False, True):
        with pytest.raises(
            ValueError,
            match="has the columns review, label, but the texts of imdb are expected in 'text'",
        ):
            hub.load("imdb", data_dir=folder, streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_that_cannot_be_read_say_what_to_do_when_they_are_met(tmp_path, streaming):
    folder = copy_of(tmp_path, "imdb", PUBLISHED["imdb"])
    file = folder / "train-00001-of-00001.parquet"
    file.write_bytes((folder / "train-00000-of-00001.parquet").read_bytes()[:100])
    with pytest.raises(
        FileNotFoundError, match="the texts of imdb could not be loaded from .*hf download"
    ):
        list(hub.texts("imdb", data_dir=folder, streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_without_a_text_are_left_out(tmp_path, streaming):
    """A null ended reading with "can only join an iterable"; among the sentences of a book, with
    "expected str instance"."""
    folder = copy_of(tmp_path, "imdb", {"text": ["Good.", None, "Bad."], "label": [1, 0, 0]})
    assert sorted(hub.texts("imdb", data_dir=folder, streaming=streaming)) == ["Bad.", "Good."]
    folder = copy_of(
        tmp_path, "books", {"text": ["he came .", None, "she left .", *[None] * 13, *[None] * 16]}
    )
    assert list(hub.texts("bookcorpus", data_dir=folder, streaming=streaming)) == [
        "he came. she left."
    ]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name, values, kind", [
    ("imdb", [1, 2], "int"), ("imdb", [["a", "b"]], "list"), ("bookcorpus", [None, 0.5], "float"),
])  # fmt: skip
def test_a_column_of_something_else_than_texts_is_named(tmp_path, name, values, kind, streaming):
    """Numbers gave a TypeError, and a list of words was joined without a word said."""
    folder = copy_of(tmp_path, name, {"text": values})
    said = (
        f"column 'text' of {name} in {folder} has a value of type {kind} where a text is expected: "
        "is it another set. .*cast_column"
    )
    with pytest.raises(ValueError, match=said):
        list(hub.texts(name, data_dir=folder, streaming=streaming))


EMPTY = {
    "jsonl": "", "csv": "", "csv with a header": "text,label\n",
    "parquet": pa.table({"text": pa.array([], pa.string())}),
    "parquet without a group": pa.schema({"text": pa.string()}),
}  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", EMPTY)
def test_a_set_without_rows_is_named_as_such(tmp_path, kind, streaming):
    """It was "generator raised StopIteration", "could not be loaded", a column that was not there,
    or nothing at all."""
    folder, content = tmp_path / "imdb", EMPTY[kind]
    folder.mkdir()
    file = folder / f"train.{kind.split()[0]}"
    if isinstance(content, str):
        file.write_text(content)
    elif isinstance(content, pa.Table):
        parquet.write_table(content, file)
    else:
        parquet.ParquetWriter(file, content).close()
    said = f"split 'train' of imdb in {folder}, or a file of it, has no rows: .*hf download"
    with pytest.raises(ValueError, match=said):
        list(hub.texts("imdb", data_dir=folder, streaming=streaming))
    # a file that knows its columns is opened, and found empty when it is read
    if not (streaming and "parquet" in kind):
        with pytest.raises(ValueError, match=said):
            hub.load("imdb", data_dir=folder, streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_script_beside_the_data_says_what_to_do(tmp_path, streaming):
    """Repositories once held one, and `datasets` refuses them with a RuntimeError, which nobody
    caught."""
    folder = copy_of(tmp_path, "imdb", PUBLISHED["imdb"])
    (folder / "imdb.py").touch()
    with pytest.raises(
        FileNotFoundError,
        match="could not be loaded from .*scripts are no longer supported.*imdb.py.*hf download",
    ):
        hub.load("imdb", data_dir=folder, streaming=streaming)


def test_an_error_that_has_the_word_split_in_it_is_not_taken_for_a_missing_split(tmp_path):
    folder = tmp_path / "split" / "imdb"
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="could not be loaded from .*split"):
        hub.load("imdb", data_dir=folder)


@pytest.mark.parametrize("name", hub.SOURCES)
def test_without_a_network_it_says_what_to_download_and_how_to_use_it(name, monkeypatch):
    for settings in ("datasets.config", "huggingface_hub.constants"):
        monkeypatch.setattr(f"{settings}.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError) as caught:
        hub.load(name)
    message = str(caught.value)
    assert (
        f"hf download {hub.SOURCES[name].repo} --repo-type dataset" in message
        and f"--local-dir {name}`" in message
    )
    assert "pass it, or the folder that it lies in, as data_dir (--data-dir)" in message


def test_a_missing_folder_and_unknown_names_say_what_there_is(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="is no folder: put the files of stanfordnlp/imdb there"
    ):
        hub.load("imdb", data_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there are bookcorpus, cnndm, tldr, imdb"):
        hub.load("poems")
    with pytest.raises(FileNotFoundError, match="hub.queries"):
        tasks.queries(tasks.PAPER["tldr"], None, 1)


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["labels/sentiment/offline_5k.json", "sentiment/offline_5k.json", "offline_5k.json"]
)
def test_released_comparisons_are_read_from_a_local_copy(tmp_path, words, place):
    padded = [50_259, 50_259]
    records = [
        {"query": [1, 2, *padded], "sample0": [0, 50_259], "sample1": [1, 50_259],
         "sample2": [2, 50_259], "sample3": [0, 1], "best": 3},
        {"query": [1], "sample0": [0], "sample1": [1], "sample2": [2], "sample3": [0], "best": 7},
    ]  # fmt: skip
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(json.dumps(records))
    read = exchange.read(
        hub.labels_file("sentiment", tmp_path),
        "openai",
        "sentiment",
        tokenizer=words,
        errors="skip",
    )
    assert (
        len(read.comparisons) == 1 and read.labels[0].choice == 3 and not read.labels[0].simulated
    )
    assert len(read.comparisons[0].options) == 4 and read.faults[0].line == 2


def test_missing_labels_say_where_they_are(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match="Download https://openaipublic.*labels/tldr/online_45k.json"
    ):
        hub.labels_file("tldr", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError,
        match="not be fetched from vwxyzjn/lm-human-preferences.*pass that folder as data_dir",
    ):
        hub.labels_file("cnndm")
    with pytest.raises(ValueError, match="no labels were released for 'mock'"):
        hub.labels_file("mock")
