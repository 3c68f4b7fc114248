"""The options in a store's URL that SQLite and PostgreSQL read by the same rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from wakelog.errors import Issue, ValidationError

__all__ = ["UrlOptions", "check_characters", "hidden"]

MAX_SECONDS = 3600


def check_characters(url: str) -> None:
    """Raises `ValidationError` for a URL with characters that no driver can take, and does not show
    it: it may hold a password."""
    if "\0" in url or any("\ud800" <= character <= "\udfff" for character in url):
        message = "it must not hold lone surrogates or NUL characters: encode them, as in %20"
        raise ValidationError("store URL", [Issue(loc="", msg=message, type="url")])


def hidden(url: str) -> str:
    """A URL that is refused, as errors show it: its scheme, for anything behind it may be a secret
    that was put in the wrong place."""
    scheme, behind, _ = url.partition("://")
    return f"{scheme}://***" if behind else "***"


@dataclass(frozen=True, slots=True)
class UrlOptions:
    """What a URL has behind its question mark. Every method that reads raises `ValidationError`."""

    url: str
    """Errors show its scheme only: see `hidden`."""
    values: Mapping[str, str]
    """The options by name, decoded."""

    def seconds(self, name: str, default: float, *, at_least: float) -> float:
        """A duration of at most an hour."""
        try:
            seconds = float(self.values.get(name, default))
        except ValueError:
            seconds = math.nan
        if not at_least <= seconds <= MAX_SECONDS:
            raise self.invalid(f"{name} must be seconds, from {at_least:g} to {MAX_SECONDS}")
        return seconds

    def whole_number(self, name: str, unit: str, *, at_least: int, at_most: int) -> int | None:
        """A number of `unit`; None if it is left out."""
        text = self.values.get(name)
        if text is None:
            return None
        is_short = text.isascii() and text.isdigit() and len(text) <= len(str(at_most))
        if not (is_short and at_least <= int(text) <= at_most):
            limits = f"from {at_least} to {at_most}"
            raise self.invalid(f"{name} must be a whole number of {unit}, {limits}")
        return int(text)

    def is_default(self, name: str, default: str, other: str) -> bool:
        """Whether an option that has two values has the default one, or is left out."""
        word = self.values.get(name, default)
        if word not in (default, other):
            raise self.invalid(f"{name} must be {default} (the default) or {other}")
        return word == default

    def invalid(self, message: str) -> ValidationError:
        """The error that says what is wrong with the URL."""
        return ValidationError(
            f"store URL '{hidden(self.url)}'", [Issue(loc="", msg=message, type="url")]
        )
