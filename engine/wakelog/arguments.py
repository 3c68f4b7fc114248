"""Checks of arguments, so that a bad value is refused at the call and not found later."""

from __future__ import annotations

from types import UnionType

from wakelog.bounds import at_least
from wakelog.core.time import Duration, duration_us
from wakelog.errors import InvalidIdError, Issue, ValidationError, quoted
from wakelog.ids import check_id, check_text

__all__ = ["MAX_PRIORITY", "check_key", "check_priority", "check_type", "reason_of", "timeout_us"]

MAX_PRIORITY = 100
"""Items of each priority are a lane of their own."""


def check_type(expected: type | UnionType, what: str, value: object) -> None:
    """Raise `ValidationError` unless `value` is an object of this type."""
    if not isinstance(value, expected):
        name = getattr(expected, "__name__", str(expected))
        issue = Issue(loc="", msg=f"expected {name}", type="type")
        raise ValidationError(f"{what} {quoted(value)}", [issue])


def timeout_us(timeout: Duration | None) -> int | None:
    """Microseconds of a `timeout=`. Raises `ValidationError`."""
    return None if timeout is None else duration_us(timeout, "timeout")


def reason_of(reason: str | None) -> str | None:
    """A `reason=`, unchanged. Raises `ValidationError` if it cannot be recorded."""
    return None if reason is None else check_text(reason, "reason")


def check_key(key: str, what: str = "key") -> str:
    """`key`, unchanged. Raises `ValidationError`, naming it `what`, unless an instance could have
    this id."""
    try:
        return check_id(key)
    except InvalidIdError as error:
        named = f"{what} {error.what.removeprefix('instance id ')}"
        raise ValidationError(named, error.issues) from None


def check_priority(priority: int) -> int:
    """The priority of an event of a pool, unchanged. Raises `ValidationError`."""
    at_least(-MAX_PRIORITY, "priority", priority, most=MAX_PRIORITY)
    return priority
