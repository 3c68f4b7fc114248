"""Crash points: let a simulation die just before or just after it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NoReturn, get_args

from wakelog.errors import Issue, ValidationError
from wakelog.ports.store import Store

__all__ = ["CrashPoint", "SimulatedCrash", "crash_next", "revive"]

CrashPoint = Literal["before_write", "after_write"]
WRITES = (
    "append",
    "claim",
    "renew",
    "release",
    "forget_key",
    "purge_kept_replies",
    "put_worker",
    "remove_worker",
    "pause_job",
    "resume_job",
)


class SimulatedCrash(BaseException):
    """The simulated process has died; `restart()` the simulation to go on."""


def crash_next(
    store: Store, point: CrashPoint, write: Literal["append", "claim"] = "append"
) -> None:
    """Make the next append of `store` the last thing that this process writes; or the next claim,
    which takes leases and leaves nothing in the log.

    Raises `ValidationError` for what is no crash point.
    """
    if point not in get_args(CrashPoint):
        issue = Issue(loc="", msg=f"give one of {', '.join(get_args(CrashPoint))}", type="point")
        raise ValidationError(f"crash point {point!r}", [issue])
    revive(store)

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def die(*args: Any, **kwargs: Any) -> Any:
            revive(store)
            if point == "after_write":
                original(*args, **kwargs)
            for name in WRITES:
                setattr(store, name, dead)
            dead()

        return die

    def dead(*_: Any, **__: Any) -> NoReturn:
        raise SimulatedCrash(point)

    setattr(store, write, dying(getattr(store, write)))


def revive(store: Store) -> None:
    """Let the store write again; take back a crash that has not come yet."""
    for name in WRITES:
        vars(store).pop(name, None)
