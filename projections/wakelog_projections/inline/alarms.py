"""The alarm view: what each instance must be woken for next.

One row for each instance, and none if nothing is due: `core.instance.next_wake` is the rule.
"""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.events import WakeAction
from wakelog.core.instance import Wake

__all__ = ["NO_RUN", "AlarmRow", "alarm_row"]

NO_RUN: tuple[WakeAction, ...] = ("clear", "deferred")
"""The actions that begin no run: a limit on runs does not apply to them."""


class AlarmRow(Struct, frozen=True):
    """The alarm row of one instance."""

    stream: str
    job: str
    """As in `task:order`."""
    due_us: int
    action: str


def alarm_row(stream: str, job: str, wake: Wake | None) -> AlarmRow | None:
    """The alarm row of an instance with this `next_wake`; None if it waits for requests only."""
    return None if wake is None else AlarmRow(stream, job, wake.due_us, wake.action)
