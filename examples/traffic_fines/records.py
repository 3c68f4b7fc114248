"""Reading event logs: CSV, and XES (also gzipped), as the process-mining community shares them."""

from __future__ import annotations

import csv
import gzip
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, NamedTuple, cast

from pydantic import ValidationError

from examples.traffic_fines.fine import ROME, Created, FineEvent, Noted, Notified, Paid, Sent

__all__ = ["ADD_PENALTY", "LogError", "Record", "read_log"]

ADD_PENALTY = "Add penalty"
CASE, ACTIVITY, TIME = "case:concept:name", "concept:name", "time:timestamp"


class LogError(Exception):
    """The file cannot be read as an event log of this process; the message says where and why."""


class Record(NamedTuple):
    """One line of a log: in which case, what and when."""

    case: str
    activity: str
    at: datetime
    event: FineEvent | None
    """The event for the job; None for the penalty itself, which the job has to raise."""

    @property
    def day(self) -> date:
        """The day in Italy."""
        return self.at.date()


def read_log(path: Path) -> list[Record]:
    """All records of a `.csv`, `.xes` or `.xes.gz` file, in time order over all cases.

    Records of the same instant keep the order of the file. Raises `LogError`.
    """
    try:
        if path.suffix == ".csv":
            found = list(_csv(path))
        elif path.name.endswith((".xes", ".xes.gz")):
            found = list(_xes(path))
        else:
            raise LogError(f"{path}: give a .csv, .xes or .xes.gz file")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, ET.ParseError) as error:
        raise LogError(f"{path} cannot be read: {error}") from error
    if not found:
        raise LogError(f"{path} holds no events")
    return sorted(found, key=lambda record: record.at)


def _csv(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = {CASE, ACTIVITY, TIME} - set(rows.fieldnames or ())
        if missing:
            raise LogError(f"{path} has no column {', '.join(sorted(missing))}")
        for row in rows:
            yield _record(row[CASE], row, f"{path}, line {rows.line_num}")


def _xes(path: Path) -> Iterator[Record]:
    with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
        for _, element in ET.iterparse(file):
            if _tag(element) == "trace":
                case = _attributes(element).get(ACTIVITY, "")
                for number, event in enumerate((e for e in element if _tag(e) == "event"), 1):
                    yield _record(case, _attributes(event), f"{path}, case {case}, event {number}")
                element.clear()


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _attributes(element: ET.Element) -> dict[str, str]:
    return {each.get("key", ""): each.get("value", "") for each in element}


def _record(case: str, said: Mapping[str, str], where: str) -> Record:
    activity = said.get(ACTIVITY, "")
    try:
        at = datetime.fromisoformat(said.get(TIME, ""))
        at = at.replace(tzinfo=ROME) if at.tzinfo is None else at.astimezone(ROME)
        event = None if activity == ADD_PENALTY else _event(activity, at.date(), said)
    except InvalidOperation as error:
        raise LogError(f"{where}: an amount is no number") from error
    except ValidationError as error:
        raise LogError(f"{where}: {activity!r} is no activity of this process") from error
    except ValueError as error:
        raise LogError(f"{where}: {error}") from error
    if not case:
        raise LogError(f"{where}: it belongs to no case")
    return Record(case, activity, at, event)


def _event(activity: str, day: date, said: Mapping[str, str]) -> FineEvent:
    match activity:
        case "Create Fine":
            return Created(amount=_money(said, "amount"))
        case "Send Fine":
            return Sent(expense=_money(said, "expense") or Decimal(0))
        case "Insert Fine Notification":
            return Notified(on=day)
        case "Payment":
            return Paid(amount=_money(said, "paymentAmount") or Decimal(0))
        case _:
            return Noted.model_validate({"kind": activity})


def _money(said: Mapping[str, str], name: str) -> Decimal | None:
    text = said.get(name)
    return Decimal(text) if text else None
