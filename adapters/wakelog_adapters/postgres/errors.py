"""What PostgreSQL's error codes mean to the engine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from wakelog.errors import StoreReason, StoreUnavailableError

__all__ = [
    "DUPLICATE",
    "NoAnswerError",
    "is_conflict",
    "is_locked",
    "is_read_only",
    "is_refusal",
    "is_silence",
    "is_worth_repeating",
    "reason_of",
    "server_message",
    "translated",
]


class NoAnswerError(psycopg.OperationalError):
    """The server took what it was sent and has not answered; the connection is closed."""

    def __init__(self, waited_s: float) -> None:
        super().__init__(f"the server has not answered for {waited_s:.1f} s")


_CONFLICTS = ("WK001", "WK002", "WK003", "WK005", "WK006", "WK007")
"""Raised by our own functions: another version, a lease that is gone, a key that was used, a paused
job, a message that was taken before, a row of the inbox that is gone."""
DUPLICATE = "23505"
_LOCKED = "55P03"

_REASONS: dict[str, StoreReason] = {
    "22": "refused",  # a value: NUL in a text, a number out of range
    "23": "refused",
    "54": "refused",  # too large
    "25006": "read_only",
    "40001": "locked",
    "40P01": "locked",
    "42501": "read_only",  # not permitted
    "42P05": "unreachable",  # a name that another client prepared, in a pooler's shared session
    "42": "damaged",  # our own tables, columns or functions are missing
    "3F000": "damaged",
    "53100": "full",
    "53400": "full",
    _LOCKED: "locked",
    "57014": "locked",
    "58P01": "damaged",
    "XX001": "damaged",
    "XX002": "damaged",
}


def reason_of(error: BaseException) -> StoreReason:
    """The reason for `error`. Without a code it is psycopg's own: a value, or the connection."""
    state = getattr(error, "sqlstate", None)
    if state is None:
        return "refused" if isinstance(error, _VALUES) else "unreachable"
    return _REASONS.get(state) or _REASONS.get(state[:2], "unreachable")


_VALUES = (psycopg.DataError, ValueError, OverflowError, TypeError)


def is_refusal(error: BaseException) -> bool:
    """Whether it concerns one unit (a value, or what our functions check), not the server."""
    if is_conflict(error):
        return True
    return isinstance(error, (psycopg.Error, *_VALUES)) and reason_of(error) == "refused"


def is_conflict(error: BaseException) -> bool:
    """Whether a version, a lease, a key or a job is not as it was when a unit was decided."""
    return getattr(error, "sqlstate", None) in _CONFLICTS


def is_locked(error: BaseException) -> bool:
    """Whether another session has kept a lock for longer than was to be waited for it."""
    return getattr(error, "sqlstate", None) == _LOCKED


def is_read_only(error: BaseException | None) -> bool:
    """Whether the server takes no writes, or took none when this session began."""
    return getattr(error, "sqlstate", None) == "25006"


def is_silence(error: BaseException | None) -> bool:
    """Whether `error` says that the server was waited for in vain."""
    return isinstance(error, _SILENCE)


_SILENCE = (NoAnswerError, psycopg.errors.ConnectionTimeout, psycopg_pool.PoolTimeout)


def is_worth_repeating(error: BaseException) -> bool:
    """Whether the server rolled back only because of another transaction at the same time, or of
    when this session began."""
    return getattr(error, "sqlstate", None) in ("40001", "40P01") or is_read_only(error)


def server_message(error: BaseException) -> str:
    """The server's own message, on one line, without the query and the position in it."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split())


@contextmanager
def translated(label: str) -> Generator[None, None, None]:
    """Raise `StoreUnavailableError` in place of any error of psycopg's, or of the system's: it may
    be out of file descriptors."""
    try:
        yield
    except (psycopg.Error, OSError) as error:
        raise StoreUnavailableError(
            reason_of(error), f"{label}: {server_message(error)}"
        ) from error
