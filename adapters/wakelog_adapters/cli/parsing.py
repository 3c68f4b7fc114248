"""The words of a command line as values: instances, payloads, times and durations."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pydantic_core

from wakelog.core.time import Duration, as_datetime, duration_us, moment_us, when_us
from wakelog.errors import ValidationError
from wakelog.ids import InstanceId
from wakelog_adapters.cli.exit_codes import UsageError
from wakelog_adapters.cli.job_types import whole_id

__all__ = [
    "InstanceRef",
    "duration",
    "instance",
    "instance_and_payload",
    "moment",
    "moment_or_duration",
    "payload",
]

MAX_SHOWN = 60
"""Characters of a wrong payload that a message quotes."""


class InstanceRef(NamedTuple):
    """An instance as the user names it: by its whole id, or by its job's name and its own id."""

    full: InstanceId | None
    name: str
    id: str

    def __str__(self) -> str:
        return str(self.full) if self.full else f"{self.name} {self.id}"


def instance(job: str | None, id: str | None) -> InstanceRef:
    """The instance that these words name.

    Raises `UsageError`, and `InvalidIdError` or `UnknownJobTypeError` for an invalid whole id.
    """
    return _instance([job, id], more=0)[0]


def instance_and_payload(job: str, id: str | None, text: str | None) -> tuple[InstanceRef, str]:
    """The instance, and the JSON text of what goes to it: as given, from `@file`, from stdin for
    `-`; without one it is null. After a whole id the second word is the payload.

    Raises as `instance` does, and `UsageError` for a file that cannot be read or invalid JSON.
    """
    ref, rest = _instance([job, id, text], more=1)
    return ref, payload(rest[0]) if rest else "null"


def duration(word: str | None, option: str) -> Duration | None:
    """A duration: `5m`, `1h30m`, or a bare number of seconds. Raises `UsageError`."""
    if word is None:
        return None
    value = _seconds(word)
    try:
        duration_us(value, option)
    except ValidationError as error:
        raise UsageError(str(error)) from None
    return value


def moment(word: str | None, option: str) -> datetime | None:
    """A time in ISO-8601 with a time zone, as in `2026-01-31T09:00:00Z`. Raises `UsageError`."""
    if word is None:
        return None
    try:
        value = datetime.fromisoformat(word)
        moment_us(value, option)
    except ValueError as error:  # wakelog's ValidationError, for a naive one, is a ValueError too
        wrong = "has no time zone" if isinstance(error, ValidationError) else "is not a time"
        raise UsageError(f"{option} {word!r} {wrong}: write it as 2026-01-31T09:00:00Z") from None
    return value


def moment_or_duration(word: str | None, now_us: int, option: str) -> datetime | None:
    """A time; a duration counts from now. Raises `UsageError`."""
    if word is None:
        return None
    try:
        return as_datetime(when_us(_seconds(word), now_us, option))
    except ValidationError:
        return moment(word, option)


def _instance(given: Sequence[str | None], *, more: int) -> tuple[InstanceRef, list[str]]:
    """The instance that the first words name, and at most `more` words that follow.

    The name of a job holds no colon, so a first word with a colon is a whole id.
    """
    words = [word for word in given if word is not None]
    first = words[0]
    if ":" in first:
        full = InstanceId.parse(whole_id(first))
        ref, rest = InstanceRef(full, full.name, full.id), words[1:]
    elif len(words) > 1:
        ref, rest = InstanceRef(None, first, words[1]), words[2:]
    else:
        raise UsageError(
            f"{first!r} names no instance: write 'order o-17' or the whole id 'task:order:o-17'"
        )
    if len(rest) > more:
        raise UsageError(f"{rest[more]!r} is too much after the whole id {first}")
    return ref, rest


def payload(word: str) -> str:
    """The JSON text of an event: as given, from `@file`, from stdin for `-`. Raises `UsageError`
    for a file that cannot be read or invalid JSON."""
    data = _read(word)
    try:
        text = data.decode("utf-8-sig")
        pydantic_core.from_json(text)
    except UnicodeDecodeError as error:
        raise UsageError(f"the payload is not UTF-8 text: {error}") from None
    except ValueError as error:
        shown = word if len(word) <= MAX_SHOWN else word[: MAX_SHOWN - 1] + "…"
        hint = f"; a text is {shlex.quote(json.dumps(word))}" if _is_words(word) else ""
        raise UsageError(f"the payload {shown!r} is not JSON: {error}{hint}") from None
    return text


def _is_words(word: str) -> bool:
    """Whether it looks like a text without its quotation marks."""
    return word[:1].isalpha() and len(word) <= MAX_SHOWN


def _seconds(word: str) -> Duration:
    try:
        number = float(word)
    except ValueError:
        return word
    return number if math.isfinite(number) else word


def _read(word: str) -> bytes:
    if word == "-":
        return sys.stdin.buffer.read()
    if not word.startswith("@"):
        return word.encode("utf-8", "surrogateescape")
    try:
        return Path(word[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"the payload's file {word[1:]!r} cannot be read: {reason}") from None
