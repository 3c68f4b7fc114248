"""Crash points: let a simulation die just before or just after it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn, get_args

from wakelog.errors import Issue, ValidationError, quoted
from wakelog.ports.pools import Plan, PoolLook, PoolSeen, PoolWrites
from wakelog.ports.rows import StatusRow
from wakelog.ports.store import Store

__all__ = ["CrashPoint", "SimulatedCrash", "crash_next", "is_owed", "revive"]

CrashPoint = Literal["before_write", "after_write"]
WRITES = (
    "append",
    "pool_call",
    "claim",
    "renew",
    "release",
    "forget_key",
    "hold_message",
    "forget_messages",
    "put_position",
    "purge_kept_replies",
    "put_worker",
    "remove_worker",
    "pause_job",
    "resume_job",
    "inbox_hold",
    "inbox_retry",
    "inbox_drop",
)


class SimulatedCrash(BaseException):
    """The simulated process has died; `restart()` the simulation to go on."""


def crash_next(
    store: Store, point: CrashPoint, write: Literal["append", "claim"] = "append"
) -> None:
    """Make the next append of `store`, or the next call of a pool that writes, the last thing that
    this process writes; or the next claim, which takes leases and leaves nothing in the log.

    Raises `ValidationError` for what is no crash point.
    """
    if point not in get_args(CrashPoint):
        issue = Issue(loc="", msg=f"give one of {', '.join(get_args(CrashPoint))}", type="point")
        raise ValidationError(f"crash point {quoted(point)}", [issue])
    revive(store)

    def end() -> NoReturn:
        revive(store)
        for name in WRITES:
            setattr(store, name, dead)
        dead()

    def dead(*_: Any, **__: Any) -> NoReturn:
        raise SimulatedCrash(point)

    setattr(store, write, _dying(getattr(store, write), point, end))
    if write == "append":
        setattr(store, "pool_call", _dying_pool_call(store.pool_call, point, end))  # noqa: B010


def _dying(
    original: Callable[..., Any], point: CrashPoint, end: Callable[[], NoReturn]
) -> Callable[..., NoReturn]:
    def die(*args: Any, **kwargs: Any) -> NoReturn:
        if point == "after_write":
            original(*args, **kwargs)
        end()

    return die


def _dying_pool_call(
    original: Callable[[PoolLook, Plan], Sequence[Any]],
    point: CrashPoint,
    end: Callable[[], NoReturn],
) -> Callable[[PoolLook, Plan], Sequence[Any]]:
    """A call that dies if its plan writes something; what it looked at and planned is gone."""

    def die(look: PoolLook, plan: Plan) -> Sequence[Any]:
        writes = PoolWrites()

        def planned(seen: PoolSeen) -> PoolWrites:
            nonlocal writes
            writes = plan(seen)
            if point == "before_write" and not writes.is_empty:
                end()
            return writes

        slices = original(look, planned)
        if not writes.is_empty:
            end()
        return slices

    return die


def revive(store: Store) -> None:
    """Let the store write again; take back a crash that has not come yet."""
    for name in WRITES:
        vars(store).pop(name, None)


def is_owed(row: StatusRow, now_us: int) -> bool:
    """Whether what was claimed was a run that has not begun: not one to be recovered, and not the
    events that wait after one that was given up."""
    due = [at_us for at_us in (row.due_us, row.retry_us) if at_us is not None and at_us <= now_us]
    return not row.executing and (bool(due) or not row.deferred_count)
