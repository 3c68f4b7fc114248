"""Sending a log through the engine in virtual time, and comparing the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from examples.traffic_fines.fine import fine
from examples.traffic_fines.records import ADD_PENALTY, LogError, Record
from wakelog.testing import Simulation

__all__ = ["Comparison", "compare", "feed"]


def feed(sim: Simulation, records: Sequence[Record]) -> None:
    """Send what was recorded, each at its time; the penalties are left to the alarms.

    The log has days, not hours: everything that happens on a day has the time of its midnight. A
    penalty that is due on a day is raised before anything recorded on that day is sent: the
    deadline is the end of the day before, and a payment on the sixtieth day is too late (as in the
    real logs). `sim.advance_to` also fires what is due at its instant, so this order needs no extra
    code. Afterwards the alarms that are due after the end of the log fire as well.
    """
    if sim.list(name="fine", limit=1):
        raise LogError("the store holds fines already: give a new one with --store")
    fines = sim.task(fine)
    for record in records:
        if record.event is not None:
            sim.advance_to(record.at)
            fines.send(record.case, record.event)
    sim.run_until_idle()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One case: when its penalty was added by the log and by the engine, None for never."""

    case: str
    notified_on: date | None
    logged_on: date | None
    raised_on: date | None
    stage: str
    appealed: bool
    """Whether an appeal lies between the notification and the day of the log's penalty."""

    @property
    def verdict(self) -> str:
        """`exact`, `early`, `late`, `missing`, `by rule, not in the log`, or `none`."""
        if self.raised_on == self.logged_on:
            return "none" if self.raised_on is None else "exact"
        if self.raised_on is None:
            return "missing"
        if self.logged_on is None:
            return "by rule, not in the log"
        return "early" if self.raised_on < self.logged_on else "late"


def compare(sim: Simulation, records: Sequence[Record]) -> list[Comparison]:
    """Engine and log compared, for each case in order of its first event."""
    cases: dict[str, list[Record]] = {}
    for record in records:
        cases.setdefault(record.case, []).append(record)
    fines = sim.task(fine)
    found: list[Comparison] = []
    for case, log in cases.items():
        state = fines.get_state(case)
        notified_on = _day(log, "Insert Fine Notification")
        logged_on = _day(log, ADD_PENALTY)
        found.append(
            Comparison(
                case=case,
                notified_on=notified_on,
                logged_on=logged_on,
                raised_on=state.penalty_on if state else None,
                stage=state.stage if state else "open",
                appealed=_is_appealed(log, notified_on, logged_on),
            )
        )
    return found


def _day(log: Sequence[Record], activity: str) -> date | None:
    return next((record.day for record in log if record.activity == activity), None)


def _is_appealed(log: Sequence[Record], start: date | None, end: date | None) -> bool:
    return any(
        start is not None
        and end is not None
        and start <= record.day < end
        and record.activity in ("Insert Date Appeal to Prefecture", "Appeal to Judge")
        for record in log
    )
