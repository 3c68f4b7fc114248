"""Instance ids: the only module that knows about the colons in a stream id."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, get_args

from msgspec import Struct

from wakelog.errors import InvalidIdError, UnknownJobTypeError, ValidationError, quoted

__all__ = [
    "KINDS",
    "InstanceId",
    "Kind",
    "check_id",
    "check_name",
    "check_step",
    "check_text",
    "job_of",
]

Kind = Literal["task", "continuous", "debounce", "workerPool"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_ID_LENGTH = 255
_VERSION = re.compile("@[0-9]+:")
"""What separates stream and name in the key of a step."""


class InstanceId(Struct, frozen=True, array_like=True, gc=False):
    """One keyed, durable job. `str()` of it is the stream id, as in `task:order:o-17`."""

    kind: Kind
    name: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{self.id}"

    @property
    def job(self) -> str:
        """Kind and name, as in `task:order`: a worker that has this job can run the instance."""
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, stream: str) -> InstanceId:
        """Split at the first two colons (ids may contain more). Raises `InvalidIdError`."""
        if not isinstance(stream, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _invalid(stream, "instance id", f"must be a string, not {type(stream).__name__}")
        kind, _, rest = stream.partition(":")
        name, colon, id = rest.partition(":")
        if not colon:
            raise _invalid(stream, "instance id", "must read type:name:id, as in task:order:o-17")
        if kind not in KINDS:
            raise UnknownJobTypeError(kind, KINDS)
        return cls(kind, check_name(name), check_id(id))


def job_of(stream: str) -> str:
    """Kind and name of a stream id, as in `task:order`; nothing is checked."""
    return ":".join(stream.split(":", 2)[:2])


def check_id(id: str) -> str:
    """Return `id` if an instance may have it: 1 to 255 characters, all of them safe in a log.

    Raises `InvalidIdError` for an empty or overlong id, control characters and lone surrogates.
    """
    return _check(id, "instance id")


def check_name(name: str) -> str:
    """Return `name` if a definition may have it: an id without a colon. Raises `InvalidIdError`."""
    checked = _check(name, "job name")
    if ":" in checked:
        raise _invalid(name, "job name", "must not hold ':' (it separates type, name and id)")
    return checked


def check_step(name: str) -> str:
    """Return `name` if a step may have it: the key of no other step may end with it. Raises
    `InvalidIdError`."""
    checked = _check(name, "step name")
    if _VERSION.search(checked):
        raise _invalid(name, "step name", "must not hold '@', digits and ':' in a row, as keys do")
    return checked


def check_text(text: str, what: str) -> str:
    """Return `text` if the log can store it: a reason, an actor, a topic.

    Raises `ValidationError`, naming it `what`, if it is not a string or has lone surrogates.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _unfit(text, what, f"must be a string, not {type(text).__name__}")
    if not text.isascii() and any(unicodedata.category(c) == "Cs" for c in text):
        raise _unfit(text, what, "must not hold lone surrogates")
    return _plain(text)


def _check(text: str, what: str) -> str:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _invalid(text, what, f"must be a string, not {type(text).__name__}")
    if not 1 <= len(text) <= MAX_ID_LENGTH:
        raise _invalid(text, what, f"must have 1 to {MAX_ID_LENGTH} characters, not {len(text)}")
    if not text.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise _invalid(text, what, "must not hold control characters or lone surrogates")
    return _plain(text)


def _plain(text: str) -> str:
    """The same characters as a plain `str`: a library may have a subclass of it."""
    return text if type(text) is str else str.__str__(text)


def _invalid(value: object, what: str, message: str) -> InvalidIdError:
    return InvalidIdError(f"{what} {quoted(value)}", [{"loc": "", "msg": message, "type": "id"}])


def _unfit(value: object, what: str, message: str) -> ValidationError:
    return ValidationError(f"{what} {quoted(value)}", [{"loc": "", "msg": message, "type": "text"}])
