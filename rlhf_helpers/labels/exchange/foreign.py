"""Names the format that a record seems to have, and says how to read it: our own, and those of
labelling programs and published data sets. docs/labels.md has the same recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlhf_helpers.labels.exchange.files import Refused

_LISTS = ("responses", "completions", "answers", "outputs", "generations", "candidates")


def _has(*names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda record: all(name in record for name in names)


def _is_pair(record: dict[str, Any]) -> bool:
    return all(isinstance(record.get(name), str | list) for name in ("chosen", "rejected"))


def _is_sharegpt(record: dict[str, Any]) -> bool:
    return isinstance(record.get("conversations"), list) and isinstance(record.get("chosen"), dict)


def _is_nested(record: dict[str, Any]) -> bool:
    lists = [record[name] for name in _LISTS if isinstance(record.get(name), list)]
    return "chosen" not in record and any(len(x) > 1 for x in lists)


def _holds_objects(record: dict[str, Any]) -> bool:
    lists = [record[name] for name in _LISTS if isinstance(record.get(name), list)]
    return any(isinstance(item, dict) for items in lists for item in items)


def _is_row(record: dict[str, Any]) -> bool:
    return _has("query", "choice")(record) and isinstance(record.get("options"), list)


def _is_wrapper(record: dict[str, Any]) -> bool:
    lists = [x for x in record.values() if isinstance(x, list) and x and isinstance(x[0], dict)]
    messages = any({"role", "from"} & set(x[0]) for x in lists)
    ours = {"prompt", "chosen", "rejected", "query", "options"} & set(record)
    return len(lists) == 1 and not messages and not ours and not _is_nested(record)


@dataclass(frozen=True)
class Shape:
    """A kind of record: `recipe` holds the lines that read a file of them, with FILE for its path
    and TASK for the task."""

    name: str
    fits: Callable[[dict[str, Any]], bool]
    recipe: str


OWN = {  # by the name that `read` knows: whether a record has the fields
    "openai": _has("query", "sample0", "best"),
    "pairs": _is_pair,
    "pairwise": _has("prompt", "first", "second", "choice"),
    "csv": _has("query", "option_0", "option_1", "choice"),
}

SHAPES = [
    Shape(
        "a label store's own export",
        lambda record: "sitting" in record or _has("task", "query", "options", "events")(record),
        'exchange.load(LabelStore("labels.db"), "FILE")',
    ),
    Shape(
        "rows with a list of options",
        _is_row,
        'read = exchange.from_dataset(exchange.records("FILE"), "TASK")',
    ),
    Shape(
        "Label Studio",
        _has("data", "annotations"),
        """\
rows = [{"query": t["data"]["prompt"], "options": [t["data"]["answer1"], t["data"]["answer2"]],
         "choice": ("left", "right").index(a["result"][0]["value"]["selected"]),
         "labeler": a["completed_by"], "created": a["created_at"], "seconds": a["lead_time"]}
        for t in exchange.records("FILE") for a in t["annotations"]
        if a["result"] and not a["was_cancelled"]]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "Argilla",
        lambda record: isinstance(record.get("fields"), dict) and "responses" in record,
        """\
names = ["response_1", "response_2"]
rows = [{"query": r["fields"]["prompt"], "options": [r["fields"][name] for name in names],
         "choice": names.index(a["value"]), "labeler": a["user_id"]}
        for r in exchange.records("FILE") for a in r["responses"].get("preference", [])]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "Prodigy",
        lambda record: (
            _has("options", "answer")(record) and ("accept" in record or "_task_hash" in record)
        ),
        """\
rows = [{"query": r["text"], "options": [o["text"] for o in r["options"]],
         "choice": [o["id"] for o in r["options"]].index(r["accept"][0]),
         "labeler": r.get("_annotator_id"), "created": r.get("_timestamp")}
        for r in exchange.records("FILE") if r["answer"] == "accept" and len(r["accept"]) == 1]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "SHP",
        _has("history", "human_ref_A", "human_ref_B", "labels"),
        """\
rows = [{"query": r["history"], "options": [r["human_ref_A"], r["human_ref_B"]],
         "choice": 1 - int(r["labels"])} for r in exchange.records("FILE")]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "WebGPT comparisons",
        _has("question", "answer_0", "answer_1", "score_0", "score_1"),
        """\
rows = [{"query": r["question"]["full_text"], "options": [r["answer_0"], r["answer_1"]],
         "choice": int(r["score_1"] > r["score_0"])}
        for r in exchange.records("FILE") if r["score_0"] != r["score_1"]]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "summarize_from_feedback",
        _has("info", "summaries", "choice"),
        """\
rows = [{"query": r["info"]["post"], "options": [s["text"] for s in r["summaries"]],
         "choice": r["choice"], "labeler": r["worker"]} for r in exchange.records("FILE")]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "ShareGPT",
        _is_sharegpt,
        """\
rows = [{"prompt": r["conversations"], "chosen": [r["chosen"]], "rejected": [r["rejected"]]}
        for r in exchange.records("FILE")]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "a nested comparison set with scores",
        lambda record: _is_nested(record) and "scores" in record,
        """\
rows = [{"query": r["prompt"], "options": r["responses"],
         "choice": r["scores"].index(max(r["scores"]))}
        for r in exchange.records("FILE") if r["scores"].count(max(r["scores"])) == 1]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "a nested comparison set of objects",
        lambda record: _is_nested(record) and _holds_objects(record),
        """\
scores = lambda r: [x["score"] for x in r["responses"]]
rows = [{"query": r["prompt"], "options": [x["text"] for x in r["responses"]],
         "choice": scores(r).index(max(scores(r)))}
        for r in exchange.records("FILE") if scores(r).count(max(scores(r))) == 1]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "a nested comparison set with a ranking",
        lambda record: _is_nested(record) and "ranking" in record,
        """\
# ranking: the indices of the responses, the best first; with ranks from 1: r["ranking"].index(1)
rows = [{"query": r["prompt"], "options": r["responses"], "choice": r["ranking"][0]}
        for r in exchange.records("FILE")]
read = exchange.from_dataset(rows, "TASK")""",
    ),
    Shape(
        "one object that holds the records in a field",
        _is_wrapper,
        """\
whole, = exchange.records("FILE")
read = exchange.from_dataset(whole["data"], "TASK")""",
    ),
]


def check(record: dict[str, Any], format: str | None, path: str, task: str) -> None:
    """Raise Refused, with the lines to read it, if a record is of another kind than `format` (None:
    rows of a data set, as pairs or with a list of options)."""
    if format is None and (OWN["pairs"](record) or _is_row(record)):
        return
    if format is not None:
        if OWN[format](record):
            return
        for other, fits in OWN.items():
            if fits(record):
                way = f'pass format="{other}", or --format {other}'
                raise Refused(f"this seems to be the format {other!r}: {way}")
    refuse(record, path, task)


def refuse(record: dict[str, Any], path: str, task: str) -> None:
    """Raise Refused, with the lines to read it, if a record has the shape of a known data set or
    program."""
    for shape in SHAPES:
        if shape.fits(record):
            recipe = shape.recipe.replace("FILE", path).replace("TASK", task or "TASK")
            raise Refused(
                f"this seems to be {shape.name}. These lines read it (change the names of fields "
                f"where yours differ):\n\n{recipe}"
            )
