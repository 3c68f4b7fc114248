"""Portals: how a blocking call is made on the event loop of its app."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from wakelog.affinity import refuse_in_loop
from wakelog.app import App
from wakelog.client.gateway import CLOSED, refuse_in_handler
from wakelog.core.time import Duration
from wakelog.errors import InvalidStateError
from wakelog.loop_thread import LoopStopped, LoopThread

__all__ = ["AppPortal", "CallsAtOnce", "LoopPortal", "Portal", "ThreadPortal"]

R = TypeVar("R")

LOOK_S = 0.5
"""How often a caller looks whether the app, or its event loop, has ended under it."""
_OWN_LOOP = (
    "app.blocking is for other threads: on its own event loop the app would wait for itself; await "
    "the app's own method there"
)
_ENDED = "the event loop of the app has ended, and the app with it: open one with jobs.open(...)"


class Portal(Protocol):
    """Runs what an app answers on the app's event loop, while the caller waits."""

    def call(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The result of the coroutine that `make` makes, run to its end; what it raises is raised
        here. `make` is called on the app's loop, if at all."""
        ...

    def at_once(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The result of what waits for nothing of the app, on the calling thread: what is sent in a
        transaction, on a connection that only this thread may use."""
        ...


class AppPortal(Portal, Protocol):
    """The portal of an app, which has an end."""

    def close(self, grace: Duration | None) -> None:
        """End the app. Nothing happens if it has ended, and in a forked process."""
        ...


class CallsAtOnce:
    """What needs no event loop, on the thread that calls."""

    def at_once(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Raises `InvalidStateError` on a thread that runs an event loop."""
        refuse_in_loop()
        sending = make()
        try:
            sending.send(None)
        except StopIteration as done:
            result: R = done.value
            return result
        finally:
            sending.close()
        raise AssertionError("it waits for something")


class ThreadPortal(CallsAtOnce):
    """Calls on a loop that runs in a thread of its own."""

    def __init__(self, thread: LoopThread, app: App) -> None:
        self._thread = thread
        self._app = app
        self._affinity = app.application.affinity

    def call(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Raises `InvalidStateError` where a blocking call is not possible: in a handler, on a
        thread that runs an event loop, in a forked process, and if the app has ended."""
        self._affinity.check_process()
        refuse_in_handler()
        refuse_in_loop()
        try:
            return self._thread.call(_owned(self._app, make))
        except LoopStopped:
            raise InvalidStateError(CLOSED) from None

    def close(self, grace: Duration | None) -> None:
        """End the app, and then the thread; on any thread."""
        if self._thread.is_stopped or self._affinity.is_inherited:
            return
        refuse_in_handler()
        try:
            with contextlib.suppress(LoopStopped):
                self._thread.call(self._app.close(grace=grace))
        finally:
            if self._app.is_closed:
                self._thread.stop()


class LoopPortal(CallsAtOnce):
    """Calls from other threads on the loop that an async app was opened on: `app.blocking`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._affinity = app.application.affinity

    def call(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Raises what `ThreadPortal.call` raises, and `InvalidStateError` on the app's own loop and
        if that has ended. A caller that is interrupted cancels what it waits for."""
        self._affinity.check_process()
        refuse_in_handler()
        self._refuse_on_own_loop()
        refuse_in_loop()
        return self._run(make)

    def close(self, grace: Duration | None) -> None:
        """End the app; on any thread but that of its loop."""
        if self._app.is_closed or self._affinity.is_inherited:
            return
        refuse_in_handler()
        self._refuse_on_own_loop()
        with contextlib.suppress(InvalidStateError):  # it ended meanwhile
            self._run(lambda: self._app.close(grace=grace))

    def _refuse_on_own_loop(self) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs on this thread
            if asyncio.get_running_loop() is self._affinity.loop:
                raise InvalidStateError(_OWN_LOOP)

    def _run(self, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        loop, coroutine = self._affinity.loop, _owned(self._app, make)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # it is closed
            coroutine.close()
            raise InvalidStateError(_ENDED) from None
        try:
            while True:
                done, _ = concurrent.futures.wait([future], LOOK_S)
                if done:
                    return future.result()
                if loop.is_closed():  # it ended before it began this: nothing ends it
                    coroutine.close()
                    raise InvalidStateError(_ENDED)
                if self._app.is_closed:  # what it waits for does not come
                    raise InvalidStateError(CLOSED)
        except concurrent.futures.CancelledError:
            raise InvalidStateError(CLOSED) from None
        except BaseException:
            if not loop.is_closed():
                future.cancel()
            raise


async def _owned(app: App, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """A handler that runs in this task and cancels it has failed, and does not end the call."""
    task = asyncio.current_task()
    if task is not None:
        app.own(task)
    return await make()
