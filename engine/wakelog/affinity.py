"""Affinity: the process and the event loop that an open app belongs to, and is used in.

A forked process inherits the app without its threads, and with the connections of the process that
it was forked from: a call would wait for ever, or be sent into a conversation of the other one. An
event loop other than the app's would wait for futures that it is never woken by.
"""

from __future__ import annotations

import asyncio
import os

from wakelog.errors import InvalidStateError

__all__ = ["Affinity", "forks", "refuse_in_loop"]

_FORKED = (
    "this process was forked after the app was opened, and has none of its threads: open one here "
    "with jobs.open(...), after the fork (gunicorn: in post_fork; multiprocessing: in the target "
    "or the initializer)"
)
_OTHER_LOOP = (
    "the app belongs to the event loop that opened it: await it there, or open one on this loop; "
    "other threads call app.blocking (from another loop: asyncio.to_thread)"
)
_ENDED_LOOP = (
    "the event loop that opened the app has ended: close the app, and open one on this loop with "
    "`async with jobs.open(...)`"
)
_IN_LOOP = (
    "a blocking call would stop the event loop of this thread: use `async with jobs.open(...)` "
    "there, or make the call in a thread (asyncio.to_thread)"
)

_forks = 0


def forks() -> int:
    """How many forks lie between this process and the first: an object that was made at another
    number was inherited."""
    return _forks


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # else there is no fork
    os.register_at_fork(after_in_child=_forked)


class Affinity:
    """Where an app may be used. Made on its event loop; any thread of any process may ask."""

    __slots__ = ("_forks", "loop")

    def __init__(self) -> None:
        self._forks = _forks
        self.loop = asyncio.get_running_loop()
        """The event loop that the app was opened on."""

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the app's."""
        return self._forks != _forks

    def check_process(self) -> None:
        """Raise `InvalidStateError` in a process that was forked from the app's."""
        if self._forks != _forks:
            raise InvalidStateError(_FORKED)

    def check(self) -> None:
        """Raise `InvalidStateError` if not called on the app's event loop, in its process."""
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:  # a forked process does not run the loop either
            is_here = False
        if not is_here or self._forks != _forks:
            self.check_process()
            raise InvalidStateError(_ENDED_LOOP if self.loop.is_closed() else _OTHER_LOOP)


def refuse_in_loop() -> None:
    """Raise `InvalidStateError` on a thread that runs an event loop: it must not block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidStateError(_IN_LOOP)
