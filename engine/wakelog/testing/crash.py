"""Crash points: let a simulation die just before or just after it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from wakelog.ports import Appended, Store

__all__ = ["CrashPoint", "SimulatedCrash", "crash_next"]

CrashPoint = Literal["before_write", "after_write"]


class SimulatedCrash(BaseException):
    """The simulated process has died; `restart()` the simulation to go on."""


def crash_next(store: Store, point: CrashPoint) -> None:
    """Make the next write of `store`, an append or a claim, the last one of this process."""
    originals = {name: getattr(store, name) for name in ("append", "claim")}

    def dying(original: Callable[..., Appended]) -> Callable[..., Appended]:
        def die(*args: Any, **kwargs: Any) -> Appended:
            for name in originals:
                delattr(store, name)
            if point == "after_write":
                original(*args, **kwargs)
            raise SimulatedCrash(point)

        return die

    for name, original in originals.items():
        setattr(store, name, dying(original))
