"""Crash points: let a simulation die just before or just after it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from wakelog.ports import Appended, Store

__all__ = ["CrashPoint", "SimulatedCrash", "crash_next", "never_mind"]

CrashPoint = Literal["before_write", "after_write"]
WRITES = ("append", "claim")


class SimulatedCrash(BaseException):
    """The simulated process has died; `restart()` the simulation to go on."""


def crash_next(store: Store, point: CrashPoint) -> None:
    """Make the next write of `store`, an append or a claim, the last one of this process."""
    never_mind(store)
    originals = {name: getattr(store, name) for name in WRITES}

    def dying(original: Callable[..., Appended]) -> Callable[..., Appended]:
        def die(*args: Any, **kwargs: Any) -> Appended:
            never_mind(store)
            if point == "after_write":
                original(*args, **kwargs)
            raise SimulatedCrash(point)

        return die

    for name, original in originals.items():
        setattr(store, name, dying(original))


def never_mind(store: Store) -> None:
    """Take back a crash that has not come yet."""
    for name in WRITES:
        vars(store).pop(name, None)
