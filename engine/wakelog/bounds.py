"""The bounds of whole numbers that callers give: options of definitions, of `open`, of calls."""

from __future__ import annotations

from wakelog.errors import Issue, ValidationError, quoted

__all__ = ["MAX_NUMBER", "at_least"]

MAX_NUMBER = 100_000_000
"""The largest one, where no smaller bound is named: every store can keep it, and compute
with a few times as many."""


def at_least(least: int, what: str, value: int, *, most: int = MAX_NUMBER) -> None:
    """Raise `ValidationError` unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"must be a whole number, at least {least}"
    elif value < least:
        message = f"must be at least {least}"
    elif value > most:
        message = f"must be at most {most}"
    else:
        return
    raise ValidationError(f"{what} {quoted(value)}", [Issue(loc="", msg=message, type="bound")])
