"""The blocking client: the same methods as the async one, called on a loop in a thread.

The methods are not written twice: each is the async one, wrapped, with its signature.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from anyio.from_thread import BlockingPortal

from wakelog.app import App
from wakelog.client.base import EventClient, JobClient
from wakelog.client.continuous import ContinuousClient
from wakelog.client.debounce import DebounceClient
from wakelog.client.gateway import CLOSED, refuse_in_handler
from wakelog.client.task import TaskClient
from wakelog.core.time import Duration
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.task import Task
from wakelog.errors import InvalidStateError

__all__ = [
    "BlockingApp",
    "BlockingContinuousClient",
    "BlockingDebounceClient",
    "BlockingTaskClient",
    "Portal",
]

S = TypeVar("S")
E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")


class Portal(Protocol):
    """Makes a coroutine function blocking."""

    def wraps(self, method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
        """`method`, run to its end on the app's loop, with the same signature."""
        ...


class ThreadPortal:
    """Calls on a loop that runs in a thread of its own."""

    def __init__(self, portal: BlockingPortal, app: App) -> None:
        self._portal = portal
        self._app = app

    def wraps(self, method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
        @functools.wraps(method)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse_in_handler()
            try:
                future = self._portal.start_task_soon(self._asked, method, args, kwargs)
            except RuntimeError:
                if not self._app.is_closed:
                    raise
                raise InvalidStateError(CLOSED) from None
            result: R = future.result()
            return result

        return blocking

    async def _asked(
        self, method: Callable[..., Coroutine[Any, Any, R]], args: Any, kwargs: Any
    ) -> R:
        task = asyncio.current_task()
        if task is not None:
            self._app.own(task)
        return await method(*args, **kwargs)


class BlockingJobClient(Generic[S]):
    """What can be asked of the instances of any job; see `JobClient` for each method."""

    def __init__(self, client: JobClient[S], portal: Portal) -> None:
        self.trigger = portal.wraps(client.trigger)
        self.retry = portal.wraps(client.retry)
        self.pause = portal.wraps(client.pause)
        self.resume = portal.wraps(client.resume)
        self.get_state = portal.wraps(client.get_state)
        self.forget_key = portal.wraps(client.forget_key)


class BlockingEventClient(BlockingJobClient[S]):
    """What can be asked of the instances of jobs that take events; see `EventClient`."""

    def __init__(self, client: EventClient[S], portal: Portal) -> None:
        super().__init__(client, portal)
        self.clear = portal.wraps(client.clear)
        self.cancel_clear = portal.wraps(client.cancel_clear)


class BlockingTaskClient(BlockingEventClient[S], Generic[S, E]):
    """What can be asked of the instances of one Task; see `TaskClient` for each method."""

    def __init__(self, client: TaskClient[S, E], portal: Portal) -> None:
        super().__init__(client, portal)
        self.send = portal.wraps(client.send)
        self.status = portal.wraps(client.status)


class BlockingContinuousClient(BlockingJobClient[S], Generic[S]):
    """What can be asked of a Continuous job; see `ContinuousClient` for each method."""

    def __init__(self, client: ContinuousClient[S], portal: Portal) -> None:
        super().__init__(client, portal)
        self.start = portal.wraps(client.start)
        self.stop = portal.wraps(client.stop)
        self.terminate = portal.wraps(client.terminate)
        self.status = portal.wraps(client.status)


class BlockingDebounceClient(BlockingEventClient[S], Generic[S, E]):
    """What can be asked of the instances of one Debounce; see `DebounceClient` for each method."""

    def __init__(self, client: DebounceClient[S, E], portal: Portal) -> None:
        super().__init__(client, portal)
        self.add = portal.wraps(client.add)
        self.flush = portal.wraps(client.flush)
        self.status = portal.wraps(client.status)


class BlockingApp:
    """An open app, blocking; see `App` for each method. Any thread may use it."""

    def __init__(self, app: App, portal: BlockingPortal) -> None:
        self._app = app
        self._portal: Portal = ThreadPortal(portal, app)
        self._tasks: dict[str, BlockingTaskClient[Any, Any]] = {}
        self._debounces: dict[str, BlockingDebounceClient[Any, Any]] = {}
        self.names = app.names
        self.metrics = app.metrics
        self.status_of = self._portal.wraps(app.status_of)
        self.history = self._portal.wraps(app.history)
        self.state_at = self._portal.wraps(app.state_at)
        self.list = self._portal.wraps(app.list)
        self.pause = self._portal.wraps(app.pause)
        self.resume = self._portal.wraps(app.resume)
        self.job_pauses = self._portal.wraps(app.job_pauses)
        self.bulk = self._portal.wraps(app.bulk)
        self.count = self._portal.wraps(app.count)
        self.counts = self._portal.wraps(app.counts)
        self.workers = self._portal.wraps(app.workers)
        self._close = self._portal.wraps(app.close)

    @overload
    def task(self, job: Task[S, E]) -> BlockingTaskClient[S, E]: ...
    @overload
    def task(self, job: str) -> BlockingTaskClient[Any, Any]: ...
    def task(
        self, job: Task[S, E] | str
    ) -> BlockingTaskClient[S, E] | BlockingTaskClient[Any, Any]:
        """The instances of a Task, given by its definition (fully typed) or by its name."""
        client = self._app.task(job)
        found = self._tasks.get(client.name)
        if found is None:
            found = self._tasks[client.name] = BlockingTaskClient(client, self._portal)
        return found

    @overload
    def continuous(self, job: Continuous[S]) -> BlockingContinuousClient[S]: ...
    @overload
    def continuous(self, job: str) -> BlockingContinuousClient[Any]: ...
    def continuous(
        self, job: Continuous[S] | str
    ) -> BlockingContinuousClient[S] | BlockingContinuousClient[Any]:
        """The instances of a Continuous job, given by its definition (fully typed) or its name."""
        return BlockingContinuousClient(self._app.continuous(job), self._portal)

    @overload
    def debounce(self, job: Debounce[S, E]) -> BlockingDebounceClient[S, E]: ...
    @overload
    def debounce(self, job: str) -> BlockingDebounceClient[Any, Any]: ...
    def debounce(
        self, job: Debounce[S, E] | str
    ) -> BlockingDebounceClient[S, E] | BlockingDebounceClient[Any, Any]:
        """The instances of a Debounce, given by its definition (fully typed) or by its name."""
        client = self._app.debounce(job)
        found = self._debounces.get(client.name)
        if found is None:
            found = BlockingDebounceClient(client, self._portal)
            self._debounces[client.name] = found
        return found

    def close(self, *, grace: Duration | None = None) -> None:
        """End, as `App.close` does. Nothing happens where the app has ended."""
        if not self._app.is_closed:
            self._close(grace=grace)

    def __contains__(self, name: object) -> bool:
        return name in self._app
