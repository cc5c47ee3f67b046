"""Hand-ins: the file is read back by our own reader and, as an oracle, line by line as JSON."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from rlhf_helpers.labels import agreement, cards, exchange, handin
from rlhf_helpers.labels.store import LabelStore, StoreError
from rlhf_helpers.records import Comparison

ITEMS = [Comparison("sentiment", f"prompt {i}", tuple("abcd")) for i in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Ann: 8 choices, one of them taken back; a tie, a skip, a second answer. Ben: one choice."""
    made = LabelStore(tmp_path / "labels.db")
    made.add(ITEMS)
    made.sit_down("ann", "sentiment", "Which is best?", "Read all four.")
    for i in range(8):
        made.record("ann", ITEMS[i].id, "choose", i % 4, order=(3, 2, 1, 0), seconds=2.5)
    made.undo("ann")
    made.record("ann", ITEMS[8].id, "tie")
    made.record("ann", ITEMS[9].id, "skip")
    made.record("ann", ITEMS[0].id, "choose", 1, repeat=True)
    made.record("ann", ITEMS[1].id, "flag", note="cut off")
    made.record("ben", ITEMS[0].id, "choose", 3)
    return made


def test_a_hand_in_holds_one_labelers_whole_history(store: LabelStore, tmp_path: Path) -> None:
    receipt = handin.hand_in(store, "ann", tmp_path / "out")
    assert receipt.path == tmp_path / "out" / "ann_labels.jsonl"
    assert (receipt.labels, receipt.simulated, receipt.others) == (7, 0, 3)
    assert receipt.sha256 == hashlib.sha256(receipt.path.read_bytes()).hexdigest()
    assert str(receipt) == (
        "7 labels and 3 other answers by ann inside ann_labels.jsonl, sha256 " + receipt.sha256[:12]
    )
    lines = [json.loads(line) for line in receipt.path.read_text(encoding="utf-8").splitlines()]
    events = [e for line in lines for e in line.get("events", [])]
    kinds = [e["kind"] for e in events]
    assert {k: kinds.count(k) for k in set(kinds)} == {
        "choose": 9, "undo": 1, "tie": 1, "skip": 1, "flag": 1,
    }  # fmt: skip
    assert {e["labeler"] for e in events} == {"ann"}
    # what she never answered is not in it
    assert {line["query"] for line in lines if "query" in line} == {c.query for c in ITEMS[:10]}
    assert [line["sitting"]["rubric"] for line in lines if "sitting" in line] == ["Read all four."]


def test_reading_a_hand_in_gives_the_number_of_the_receipt(
    store: LabelStore, tmp_path: Path
) -> None:
    receipt = handin.hand_in(store, "ann", tmp_path)
    other = LabelStore(tmp_path / "other.db")
    exchange.load(other, receipt.path)
    assert len(other.labels()) == receipt.labels == 7
    assert other.labels() == store.labels(labeler="ann")
    assert [e.kind for e in other.events()] == [e.kind for e in store.events(labeler="ann")]


def test_teachers_merge_hand_ins_and_a_later_one_brings_what_is_new(
    store: LabelStore, tmp_path: Path
) -> None:
    together = LabelStore(tmp_path / "class.db")
    files = [handin.hand_in(store, who, tmp_path).path for who in ("ann", "ben")]
    for _ in range(2):
        assert agreement.merge(together, files) == []
        assert len(together.labels()) == 8 and together.labelers() == store.labelers()
    store.record("ann", ITEMS[10].id, "choose", 0)
    assert handin.hand_in(store, "ann", tmp_path).labels == 8
    assert agreement.merge(together, [str(files[0])]) == [] and len(together.labels()) == 9


def test_merging_a_file_without_labels_names_it_and_merges_nothing(
    store: LabelStore, tmp_path: Path
) -> None:
    """A copy of a database without its log had no labels, and `merge` returned [] for it."""
    together, empty = LabelStore(tmp_path / "class.db"), LabelStore(tmp_path / "ben.db")
    empty.add(ITEMS)
    for source in (empty, tmp_path / "ben.db"):
        with pytest.raises(ValueError, match=r"no labels in \S*ben.db: leave it out, or ask for"):
            agreement.merge(together, [store, source])
    with pytest.raises(ValueError, match="there is no file .*cleo.db"):
        agreement.merge(together, [store, tmp_path / "cleo.db"])
    assert not (tmp_path / "cleo.db").exists() and together.events() == []


def test_who_has_no_labels_is_told_who_has(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no labels by 'cleo'; it has labels by: ann, ben"):
        handin.hand_in(store, "cleo", tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_file_that_lacks_an_answer_is_not_a_hand_in(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exchange.export

    def cut(store: LabelStore, path: Path) -> int:
        count = whole(store, path)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:-1]), encoding="utf-8")
        return count

    monkeypatch.setattr(exchange, "export", cut)
    with pytest.raises(StoreError, match="does not hold what .* 9 answers instead of 10"):
        handin.hand_in(store, "ann", tmp_path)


def test_simulated_labels_are_called_simulated_and_names_make_no_paths(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.add(ITEMS)
    evil = "../<b>ann</b>"
    store.record(evil, ITEMS[0].id, "choose", 0, simulated=True)
    receipt = handin.hand_in(store, evil, tmp_path / "out")
    assert str(receipt).startswith("1 label (simulated) by ../<b>ann</b> inside ")
    assert receipt.path.parent == tmp_path / "out"
    page = receipt._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;" in page
    store.record(evil, ITEMS[1].id, "choose", 0)
    assert str(handin.hand_in(store, evil, tmp_path)).startswith("2 labels (1 of them simulated)")


def test_the_receipt_of_a_whole_store_counts_everybody(store: LabelStore, tmp_path: Path) -> None:
    receipt = handin.export(store, tmp_path / "all.jsonl")
    assert (receipt.labels, receipt.labelers) == (8, ("ann", "ben"))
    assert "8 labels and 3 other answers by 2 labelers inside all.jsonl" in str(receipt)


def test_no_export_replaces_a_label_store(store: LabelStore, tmp_path: Path) -> None:
    """handin.export(store, "w.db") put text in the place of a store, and its labels were gone."""
    other = LabelStore(tmp_path / "other.db")
    other.add(ITEMS)
    other.record("cleo", ITEMS[0].id, "choose", 1)
    for export in (
        lambda: handin.export(store, other.name),
        lambda: exchange.export(store, other.name),
        lambda: exchange.write(other.name, "pairs", store.comparisons(), store.labels()),
    ):
        with pytest.raises(ValueError, match="other.db is a database, and people's labels may be"):
            export()
        assert [x.labeler for x in LabelStore(other.name).labels()] == ["cleo"]


def test_a_hand_in_never_replaces_one_that_holds_something_else(tmp_path: Path) -> None:
    """The hand-in of "a_b" replaced that of "a b", and one of a second store that of the first."""
    first, second = LabelStore(tmp_path / "1.db"), LabelStore(tmp_path / "2.db")
    for made in (first, second):
        made.add(ITEMS)
    first.record("a b", ITEMS[0].id, "choose", 0)
    first.record("a_b", ITEMS[1].id, "choose", 1)
    second.record("a b", ITEMS[2].id, "choose", 2)
    out = tmp_path / "out"

    def names() -> list[str]:
        given = ((first, "a b"), (first, "a_b"), (second, "a b"))
        return [handin.hand_in(made, labeler, out).path.name for made, labeler in given]

    wanted = ["a_b_labels.jsonl", "a_b-2_labels.jsonl", "a_b-3_labels.jsonl"]
    assert names() == wanted
    first.undo("a b")  # a longer history replaces its own earlier file
    assert names() == wanted and sorted(p.name for p in out.iterdir()) == sorted(wanted)
    choices = [[e.choice for e in handin.read(out / name)[1].events] for name in wanted]
    assert choices == [[0, None], [1], [2]]


def test_the_first_bytes_tell_what_was_handed_in(store: LabelStore, tmp_path: Path) -> None:
    """A compressed hand-in was "not a label store", and an empty .db was made into a database."""
    content = handin.hand_in(store, "ann", tmp_path).path.read_bytes()
    (tmp_path / "ann.jsonl.gz").write_bytes(gzip.compress(content))
    (tmp_path / "ann.txt").write_bytes(content)
    store.close()
    (tmp_path / "all.jsonl").write_bytes((tmp_path / "labels.db").read_bytes())
    for name, count in (("ann.jsonl.gz", 13), ("ann.txt", 13), ("all.jsonl", 14)):
        assert len(handin.read(tmp_path / name)[1].events) == count
    (tmp_path / "empty.db").touch()
    with pytest.raises(ValueError, match="empty.db is empty"):
        handin.read(tmp_path / "empty.db")
    assert (tmp_path / "empty.db").read_bytes() == b""
    for lone in (str(tmp_path / "ann.txt"), tmp_path / "ann.txt", store):
        together = LabelStore(tmp_path / "together.db")
        assert agreement.merge(together, lone) == [] and "ann" in together.labelers()


def test_a_hand_in_of_remarks_alone_is_said_to_hold_no_labels(tmp_path: Path) -> None:
    remarks = LabelStore(tmp_path / "remarks.db")
    remarks.add(ITEMS)
    remarks.record("ann", ITEMS[0].id, "flag", note="cut off")
    (said,) = agreement.merge(LabelStore(tmp_path / "class.db"), [remarks])
    assert said == f"{remarks.name}: it held no labels, only remarks on texts"


def test_an_empty_labeler_file_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cards.me() returned "", and no session begins without a name."""
    monkeypatch.setattr("rlhf_helpers.labels.place.folder", lambda: tmp_path)
    monkeypatch.setattr("rlhf_helpers.labels.frontend.headless", lambda: False)
    (tmp_path / "labeler.txt").write_text("\n", encoding="utf-8")
    name = cards.me()
    assert name.startswith("labeler-") and cards.me() == name


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LabelStore("~/x.db") made a folder called ~."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    LabelStore("~/x.db").close()
    assert (tmp_path / "home" / "x.db").exists() and not (tmp_path / "~").exists()
