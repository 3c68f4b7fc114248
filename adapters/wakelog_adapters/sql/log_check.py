"""Whether the log ends as the status rows say, and the rows are as they were written.

Not the whole chain of each stream: `history` and each load check that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wakelog.errors import HistoryError
from wakelog.log.records import hash_of
from wakelog.log.status_row import is_sound
from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import StatusRow
from wakelog_adapters.sql.findings import Finding, counted, ok, problem

__all__ = ["NEWEST", "check_log"]

NEWEST = 10_000
"""Of how many instances, the last ones written, the newest event and the row are read."""

_COLUMNS = StatusRow.__struct_fields__
_EXECUTING = _COLUMNS.index("executing")
_ENDS_ELSEWHERE = """SELECT count(*), min(s.stream) FROM {t}status s
    WHERE s.version <> coalesce((SELECT max(e.originator_version) FROM {t}stored_events e
        WHERE e.originator_id = s.stream), 0)"""
_LAST_WRITTEN = f"""SELECT e.topic, e.state, {", ".join(f"s.{column}" for column in _COLUMNS)}
    FROM (SELECT * FROM {{t}}status ORDER BY updated_us DESC LIMIT {NEWEST}) s
    JOIN {{t}}stored_events e
    ON e.originator_id = s.stream AND e.originator_version = s.version"""
_WITHOUT_ROW = """SELECT count(*), min(a.stream) FROM {t}alarms a
    WHERE NOT EXISTS (SELECT 1 FROM {t}status s WHERE s.stream = a.stream)"""

_ADVICE = "see wakelog history of it; stop what else writes to the store, and restore a copy"


def check_log(rows: Callable[[str], Sequence[Sequence[Any]]]) -> Finding:
    """`rows` returns those of a query. Changes nothing, and locks nothing."""
    [(elsewhere, stream)] = rows(_ENDS_ELSEWHERE)
    if elsewhere:
        text = f"{counted(elsewhere, 'stream')} whose end is not where its status row says"
        return problem("log", f"{text}, as {stream}", _ADVICE)
    [(without, stream)] = rows(_WITHOUT_ROW)
    if without:
        text = f"{counted(without, 'alarm')} of an instance without a status row"
        return problem("log", f"{text}, as {stream}", _ADVICE)
    last = rows(_LAST_WRITTEN)
    changed = [
        row for topic, state, *values in last if not _agree(topic, state, row := _row(values))
    ]
    if changed:
        text = f"{counted(len(changed), 'instance')} changed by something else"
        return problem("log", f"{text}, as {changed[0].stream}", _ADVICE)
    return ok("log", f"every stream ends as its status row says (hashes of {len(last)} compared)")


def _row(values: Sequence[Any]) -> StatusRow:
    fields = [*values]
    fields[_EXECUTING] = bool(fields[_EXECUTING])
    return StatusRow(*fields)


def _agree(topic: str, state: bytes, row: StatusRow) -> bool:
    try:
        hash = hash_of(StoredEvent(row.stream, row.version, topic, state))
    except HistoryError:
        return False
    return hash == row.hash and is_sound(row)
