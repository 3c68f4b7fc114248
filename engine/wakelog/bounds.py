"""Bounds on settings: nonsense is refused when an app is opened, not met while it works."""

from __future__ import annotations

from wakelog.errors import Issue, ValidationError

__all__ = ["at_least"]


def at_least(least: int, what: str, value: int) -> None:
    """Raise `ValidationError` unless `value` is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"it must be a whole number, at least {least}"
    elif value < least:
        message = f"it must be at least {least}"
    else:
        return
    raise ValidationError(f"{what} {value!r}", [Issue(loc="", msg=message, type="bound")])
