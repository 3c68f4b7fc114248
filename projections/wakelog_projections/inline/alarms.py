"""The alarm view: what each instance must be woken for next. Written in the append's transaction.

One row an instance, and none where nothing is due: `core.instance.next_wake` is the rule.
"""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.events import WakeAction
from wakelog.core.instance import Instance, next_wake

__all__ = ["NO_RUN", "AlarmRow", "row"]

NO_RUN: tuple[WakeAction, ...] = ("clear", "deferred")
"""The actions that begin no run: a limit on runs does not hold them up."""


class AlarmRow(Struct, frozen=True):
    """The alarm row of one instance."""

    stream: str
    job: str
    """As in `task:order`."""
    due_us: int
    action: str


def row(instance: Instance) -> AlarmRow | None:
    """The alarm row of `instance`; None where it waits for nothing but events from outside."""
    wake = next_wake(instance)
    if wake is None:
        return None
    id = instance.id
    job = f"{id.kind}:{id.name}"
    return AlarmRow(f"{job}:{id.id}", job, wake.due_us, wake.action)
