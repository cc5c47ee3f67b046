"""A whole label store as one readable file, and back: nothing is lost, neither what was taken back
nor the order on the screen.

JSON lines. A sitting is `{"sitting": {...}}`; a comparison has its `events` (choose, tie, skip,
flag, undo), and if known its `gold` choice and the two `systems` that wrote a blind pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_helpers.labels.exchange import files, foreign
from rlhf_helpers.labels.exchange.files import FAULTS, Refused
from rlhf_helpers.labels.exchange.reading import Fault, explain
from rlhf_helpers.labels.store import Contents, Event, LabelStore, Sitting
from rlhf_helpers.labels.store.events import check, check_sitting, fits
from rlhf_helpers.labels.store.tables import comparisons as table
from rlhf_helpers.labels.store.tables import judgements
from rlhf_helpers.records import Comparison


@dataclass(frozen=True)
class Loaded:
    """How much was new; `faults` and `conflicts` say what was left out, if leaving out was asked
    for."""

    comparisons: int
    events: int
    faults: list[Fault]
    conflicts: list[str]


def export(store: LabelStore, path: Path | str) -> int:
    """Write all that the store holds, and return the number of comparisons; the file appears only
    when it is complete. Raises ValueError if the store is empty."""
    held = store.contents()
    if not held.comparisons:
        raise ValueError("the label store is empty: there is nothing to export yet")
    events: dict[str, list[dict[str, Any]]] = {}
    for event in held.events:
        values = {
            name: value
            for name, value in event._asdict().items()
            if value not in (None, "", ()) and name != "comparison_id"
        }
        events.setdefault(event.comparison_id, []).append(values)
    lines: list[dict[str, Any]] = [{"sitting": sitting._asdict()} for sitting in held.sittings]
    for c in held.comparisons:
        line = {
            "id": c.id,
            "task": c.task,
            "query": c.query,
            "options": list(c.options),
            "source": c.source,
            "round": c.round,
        }
        line |= {"gold": held.gold[c.id]} if c.id in held.gold else {}
        line |= {"systems": held.systems[c.id]} if c.id in held.systems else {}
        lines.append(line | {"events": events.get(c.id, [])})
    with files.replacing(Path(path)) as file:
        files.write_lines(file, lines)
    return len(held.comparisons)


def load(
    store: LabelStore, path: Path | str, *, errors: Literal["raise", "skip"] = "raise"
) -> Loaded:
    """Take over what `export` wrote. Harmless to repeat.

    With errors="skip" faulty lines and contradictions are left out and reported; otherwise the
    first one raises ValueError with its line and reason, and nothing is kept. A file that holds
    nothing, or something else, is refused in any case.
    """
    comparisons, given, sittings, gold, systems, faults = [], [], [], {}, {}, []
    for unit, number, read in _lines(Path(path)):
        try:
            record = read()
            if isinstance(record, dict) and "sitting" in record:
                sitting = Sitting(**record["sitting"])
                check_sitting(sitting)
                sittings.append(sitting)
                continue
            comparison, events = _parse(record)
        except FAULTS as error:
            if errors == "raise":
                raise ValueError(
                    f"{path}, {unit} {number}: {explain(error)}; nothing was imported "
                    '(errors="skip" leaves it out)'
                ) from error
            faults.append(Fault(number, explain(error), unit))
            continue
        comparisons.append(comparison)
        given += events
        gold |= {comparison.id: record["gold"]} if "gold" in record else {}
        systems |= {comparison.id: tuple(record["systems"])} if "systems" in record else {}
    if not comparisons and not sittings:
        reason = faults[0] if faults else "it is empty"
        raise Refused(f"{path} holds nothing that could be imported: {reason}")
    given.sort(key=lambda e: (e.id or 0, e.created))
    taken = store.append(
        Contents(comparisons, given, sittings, gold, systems), strict=errors == "raise"
    )
    return Loaded(taken.comparisons, taken.events, faults, taken.conflicts)


def _lines(path: Path) -> files.Records:
    """Yield the lines of an export; raises Refused for a file of another format."""
    with files.opened(path) as text:
        if not files.is_json(text):
            raise Refused(f"{path} is not what `export` writes; read a table with `exchange.read`")
        for unit, number, read in files.json_records(text):
            if number == 1:
                _check_format(read, path)
            yield unit, number, read


def _check_format(read: Callable[[], Any], path: Path) -> None:
    try:
        record = read()
    except FAULTS:
        return  # a fault of this line
    if not isinstance(record, dict) or {"sitting", "options"} & set(record):
        return
    if name := next((name for name, fits in foreign.OWN.items() if fits(record)), None):
        raise Refused(
            f"{path} is not what `export` writes, but the format {name!r}: "
            f'`exchange.read("{path}", "{name}", task)`'
        )
    try:
        foreign.refuse(record, str(path), "")
    except Refused as error:
        raise Refused(f"{path}: {error}") from error


def _parse(record: Any) -> tuple[Comparison, list[Event]]:
    """Check one line so far that the store cannot stumble over it."""
    if not isinstance(record, dict):
        raise ValueError("expected an object with task, query, options and a list of events")
    events = record.get("events", [])
    task, query, options = record["task"], record["query"], record["options"]
    if not (
        isinstance(task, str)
        and isinstance(query, str)
        and isinstance(options, list)
        and isinstance(events, list)
    ):
        raise ValueError(
            "task and query must be text, options a list of texts, and events a list of events"
        )
    comparison = Comparison(
        task, query, tuple(options), str(record.get("source", "base")), int(record.get("round", 0))
    )
    fits(
        table,
        {"task": task, "query": query, "source": comparison.source, "round": comparison.round},
    )
    if record.get("id", comparison.id) != comparison.id:
        raise ValueError(
            f"the id {record['id']!r} does not belong to this content: was the line edited by hand?"
        )
    given = [Event(comparison.id, **{**x, "order": tuple(x.get("order", ()))}) for x in events]
    for event in given:
        check(event, len(options))
    gold, systems = record.get("gold", 0), record.get("systems", ["", ""])
    if type(gold) is not int or not 0 <= gold < len(options):
        raise ValueError(f"gold {gold!r} must be the index of one of {len(options)} options")
    if (
        not isinstance(systems, list)
        or [type(x) for x in systems] != [str, str]
        or ("systems" in record and len(options) != 2)
    ):
        raise ValueError("systems must name who wrote option 0 and option 1 of a pair")
    fits(judgements, {"system_0": systems[0], "system_1": systems[1]})
    return comparison, given
