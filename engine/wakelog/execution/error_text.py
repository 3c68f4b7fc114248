"""An error in words: its type, message, traceback and the place of the user's code that it is from.

All of it is kept, so it is bounded, and in a form that every store accepts. To ask an error for its
words calls user code, which may raise anything.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
import types
from collections.abc import Iterator
from typing import NamedTuple

from wakelog.functions import place_of

__all__ = ["MAX_MESSAGE", "ErrorText", "clean", "error_text"]

MAX_NAME = 255
MAX_MESSAGE = 2_000
MAX_TRACEBACK = 8_000
MAX_WHERE = 500
"""How many characters of the name of an error's class, of its message, traceback and place are
kept; of a traceback the last ones, which are the most specific."""

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LIBRARIES = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class ErrorText(NamedTuple):
    """What is kept of an error."""

    error_type: str
    message: str
    traceback: str
    """Without the frames of the engine that called the handler."""
    where: str
    """As in `/srv/orders.py:41 in charge`; empty if no code of the user's raised it."""


def error_text(error: BaseException, raised: BaseException, function: object = None) -> ErrorText:
    """The words of `error`, which is what was `raised` by the user's `function`, or is the cause
    that that was for."""
    trace = _of_user(error.__traceback__) or _of_user(raised.__traceback__)
    return ErrorText(
        clean(type(error).__qualname__)[:MAX_NAME],
        clean(_message(error))[:MAX_MESSAGE],
        clean(_traceback(error, trace))[-MAX_TRACEBACK:],
        clean(_where(trace) or _written(function))[:MAX_WHERE],
    )


def clean(text: str) -> str:
    """`text` in a form that every store accepts: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _of_user(trace: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback from the first frame on that is not the engine's."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def _where(trace: types.TracebackType | None) -> str:
    """The last place that is in no library, or else the first one: the handler itself."""
    places = list(_places(trace))
    own = [each for each in places if not each.startswith((_OURS, *_LIBRARIES))]
    return next(iter([*own[-1:], *places[:1]]), "")


def _written(function: object) -> str:
    """Where the function is; empty for one of ours, which stands for one that there is not."""
    place = place_of(function)
    return "" if place.startswith(_OURS) else place


def _places(trace: types.TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as unprintable:
        return f"(its message cannot be shown: {type(unprintable).__name__})"


def _traceback(error: BaseException, trace: types.TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as unprintable:
        return f"(its traceback cannot be shown: {type(unprintable).__name__})"
