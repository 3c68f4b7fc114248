"""Checks of what callers ask of a WorkerPool."""

from __future__ import annotations

from collections.abc import Sequence

from wakelog.arguments import check_key
from wakelog.errors import Issue, ValidationError, quoted
from wakelog.pools.items import looks_like_place

__all__ = ["check_choice", "check_id", "check_list", "not_both"]


def check_list(what: str, given: object) -> None:
    """A text is a sequence too, of one-letter ones."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        issue = Issue(loc=what, msg="expected a list", type="type")
        raise ValidationError(f"{what} of type {type(given).__name__}", [issue])


def check_choice(event_ids: Sequence[str] | None, error: str | None) -> None:
    """Ids, or a filter. Raises `ValidationError` for both."""
    if event_ids is None:
        return
    check_list("event_ids", event_ids)
    if error is not None:
        raise not_both("dead events", "event_ids or error=")


def not_both(what: str, choice: str) -> ValidationError:
    """The error of two arguments that exclude each other."""
    return ValidationError(what, [Issue(loc="", msg=f"give {choice}, not both", type="arguments")])


def check_id(id: str) -> None:
    """Raises `ValidationError` for an id that no caller may give."""
    check_key(id)
    if looks_like_place(id):
        issue = Issue(loc="id", msg="ids such as #3.17 are given by the pool", type="id")
        raise ValidationError(f"id {quoted(id)}", [issue])
