"""The words that descriptions of events are made of."""

from __future__ import annotations

from wakelog.core.time import as_datetime

__all__ = ["MAX_SHOWN", "because", "counted", "error_words", "length", "moment", "shown"]

MAX_SHOWN = 80
"""The most characters of a payload or a message in a description."""


def shown(text: str | None) -> str:
    """A payload or a message, as long as can be shown."""
    if text is None:
        return "nothing"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def moment(us: int) -> str:
    """A moment."""
    return f"{as_datetime(us):%Y-%m-%d %H:%M:%S} UTC"


def length(us: int) -> str:
    """A length of time, in the unit that suits it."""
    seconds = us / 1_000_000
    if seconds < 1:
        return f"{us / 1_000:.3g} ms"
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def counted(count: int) -> str:
    """As in `1 event`, `2 events`."""
    return "1 event" if count == 1 else f"{count} events"


def because(reason: str | None) -> str:
    """A reason after a colon, if there is one."""
    return f": {reason}" if reason else ""


def error_words(type_: str, message: str) -> str:
    """An error's type and message."""
    return f"{type_}: {shown(message)}" if message else type_
