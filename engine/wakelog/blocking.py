"""The blocking client: the same methods as the async one, called on an event loop in a thread.

The methods are not written twice: each is the async one, wrapped, with its signature.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from wakelog.affinity import refuse_in_loop
from wakelog.app import App
from wakelog.client.base import EventClient, JobClient
from wakelog.client.continuous import ContinuousClient, ContinuousStatus
from wakelog.client.debounce import DebounceClient, DebounceStatus
from wakelog.client.gateway import CLOSED, refuse_in_handler
from wakelog.client.status import InstanceStatus
from wakelog.client.task import TaskClient, TaskStatus
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.core.time import Duration
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.task import Task
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import InvalidStateError
from wakelog.follow.following import Following
from wakelog.log.cloud_event import CloudEvent
from wakelog.loop_thread import LoopStopped, LoopThread

__all__ = [
    "BlockingApp",
    "BlockingCalls",
    "BlockingContinuousClient",
    "BlockingDebounceClient",
    "BlockingFollowing",
    "BlockingTaskClient",
    "BlockingWorkerPoolClient",
    "Portal",
]

S = TypeVar("S")
Status = TypeVar("Status", bound=InstanceStatus)
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

    def __init__(self, thread: LoopThread, app: App) -> None:
        self._thread = thread
        self._app = app
        self._affinity = app.application.affinity

    def wraps(self, method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
        @functools.wraps(method)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            self._affinity.check_process()
            if kwargs.get("connection") is not None:
                return _at_once(method(*args, **kwargs))
            refuse_in_handler()
            refuse_in_loop()
            try:
                return self._thread.call(self._called(method, args, kwargs))
            except LoopStopped:
                raise InvalidStateError(CLOSED) from None

        return blocking

    async def _called(
        self, method: Callable[..., Coroutine[Any, Any, R]], args: Any, kwargs: Any
    ) -> R:
        task = asyncio.current_task()
        if task is not None:
            self._app.own(task)
        return await method(*args, **kwargs)


def _at_once(sending: Coroutine[Any, Any, R]) -> R:
    """What is sent in a transaction of the caller's own, on the thread that may use the connection:
    it waits for nothing of the app."""
    refuse_in_loop()
    try:
        sending.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        sending.close()
    raise AssertionError("it waits for something")


class BlockingJobClient(Generic[S, Status]):
    """What can be requested of the instances of any job; see `JobClient` for each method."""

    def __init__(self, client: JobClient[S, Status], portal: Portal) -> None:
        self.trigger = portal.wraps(client.trigger)
        self.retry = portal.wraps(client.retry)
        self.pause = portal.wraps(client.pause)
        self.resume = portal.wraps(client.resume)
        self.status = portal.wraps(client.status)
        self.get_state = portal.wraps(client.get_state)
        self.dead_letters = portal.wraps(client.dead_letters)
        self.requeue = portal.wraps(client.requeue)
        self.discard = portal.wraps(client.discard)
        self.dead_letter = portal.wraps(client.dead_letter)
        self.forget_key = portal.wraps(client.forget_key)
        self.name = client.name


class BlockingEventClient(BlockingJobClient[S, Status]):
    """What can be requested of the instances of jobs that take events; see `EventClient`."""

    def __init__(self, client: EventClient[S, Status], portal: Portal) -> None:
        super().__init__(client, portal)
        self.clear = portal.wraps(client.clear)
        self.cancel_clear = portal.wraps(client.cancel_clear)


class BlockingTaskClient(BlockingEventClient[S, TaskStatus], Generic[S, E]):
    """What can be requested of the instances of one Task; see `TaskClient` for each method."""

    def __init__(self, client: TaskClient[S, E], portal: Portal) -> None:
        super().__init__(client, portal)
        self.send = portal.wraps(client.send)


class BlockingContinuousClient(BlockingJobClient[S, ContinuousStatus], Generic[S]):
    """What can be requested of a Continuous job; see `ContinuousClient` for each method."""

    def __init__(self, client: ContinuousClient[S], portal: Portal) -> None:
        super().__init__(client, portal)
        self.start = portal.wraps(client.start)
        self.stop = portal.wraps(client.stop)
        self.terminate = portal.wraps(client.terminate)


class BlockingDebounceClient(BlockingEventClient[S, DebounceStatus], Generic[S, E]):
    """What can be requested of the instances of one Debounce; see `DebounceClient`."""

    def __init__(self, client: DebounceClient[S, E], portal: Portal) -> None:
        super().__init__(client, portal)
        self.add = portal.wraps(client.add)
        self.flush = portal.wraps(client.flush)


class BlockingWorkerPoolClient(Generic[E]):
    """What can be requested of one WorkerPool; see `WorkerPoolClient` for each method."""

    def __init__(self, client: WorkerPoolClient[E], portal: Portal) -> None:
        self.enqueue = portal.wraps(client.enqueue)
        self.enqueue_many = portal.wraps(client.enqueue_many)
        self.status = portal.wraps(client.status)
        self.get = portal.wraps(client.get)
        self.wait = portal.wraps(client.wait)
        self.history = portal.wraps(client.history)
        self.why = portal.wraps(client.why)
        self.dead_letters = portal.wraps(client.dead_letters)
        self.pause = portal.wraps(client.pause)
        self.resume = portal.wraps(client.resume)
        self.drain = portal.wraps(client.drain)
        self.cancel_event = portal.wraps(client.cancel_event)
        self.set_priority = portal.wraps(client.set_priority)
        self.requeue = portal.wraps(client.requeue)
        self.discard = portal.wraps(client.discard)
        self.dead_letter = portal.wraps(client.dead_letter)
        self.rebuild = portal.wraps(client.rebuild)
        self.name = client.name


class BlockingFollowing(Iterator[CloudEvent]):
    """The messages that a named follower has not handled yet; see `Following`.

    with app.follow("mailer", topics=["paid"]) as events:
        for event in events:
            mail(event.data)
    """

    def __init__(self, following: Following, portal: Portal) -> None:
        self._next = portal.wraps(following.next_if_any)
        self.close = portal.wraps(following.aclose)

    def __iter__(self) -> BlockingFollowing:
        return self

    def __enter__(self) -> BlockingFollowing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> CloudEvent:
        event = self._next()
        if event is None:
            raise StopIteration
        return event


class BlockingCalls:
    """The calls of an app and its clients, made blocking by a portal; see `App` for each method.

    `App` and this class are held together by a test: a new method is not forgotten here.
    """

    def __init__(self, app: App, portal: Portal) -> None:
        self.app = app
        """The async app behind it; not part of the stable interface."""
        self._portal = portal
        self._clients: dict[str, Any] = {}
        wraps = portal.wraps
        self.names = app.names
        self.metrics = app.metrics
        self.status_of = wraps(app.status_of)
        self.pools = wraps(app.pools)
        self.history = wraps(app.history)
        self.state_at = wraps(app.state_at)
        self.list = wraps(app.list)
        self.dead_letters = wraps(app.dead_letters)
        self.count = wraps(app.count)
        self.counts = wraps(app.counts)
        self.workers = wraps(app.workers)
        self.pause = wraps(app.pause)
        self.resume = wraps(app.resume)
        self.job_pauses = wraps(app.job_pauses)
        self.bulk = wraps(app.bulk)
        self.position = wraps(app.position)
        self.until = wraps(app.until)
        self.pending = wraps(app.pending)

    def follow(
        self, name: str, *, topics: Sequence[str] = (), wait: bool = True
    ) -> BlockingFollowing:
        """See `App.follow`."""
        return BlockingFollowing(self.app.follow(name, topics=topics, wait=wait), self._portal)

    @overload
    def task(self, job: Task[S, E]) -> BlockingTaskClient[S, E]: ...
    @overload
    def task(self, job: str) -> BlockingTaskClient[Any, Any]: ...
    def task(
        self, job: Task[S, E] | str
    ) -> BlockingTaskClient[S, E] | BlockingTaskClient[Any, Any]:
        """The instances of a Task, given by its definition (fully typed) or by its name."""
        client: BlockingTaskClient[Any, Any] = self._client(BlockingTaskClient, self.app.task(job))
        return client

    @overload
    def continuous(self, job: Continuous[S]) -> BlockingContinuousClient[S]: ...
    @overload
    def continuous(self, job: str) -> BlockingContinuousClient[Any]: ...
    def continuous(
        self, job: Continuous[S] | str
    ) -> BlockingContinuousClient[S] | BlockingContinuousClient[Any]:
        """The instances of a Continuous job, given by its definition (fully typed) or its name."""
        client: BlockingContinuousClient[Any] = self._client(
            BlockingContinuousClient, self.app.continuous(job)
        )
        return client

    @overload
    def debounce(self, job: Debounce[S, E]) -> BlockingDebounceClient[S, E]: ...
    @overload
    def debounce(self, job: str) -> BlockingDebounceClient[Any, Any]: ...
    def debounce(
        self, job: Debounce[S, E] | str
    ) -> BlockingDebounceClient[S, E] | BlockingDebounceClient[Any, Any]:
        """The instances of a Debounce, given by its definition (fully typed) or by its name."""
        client: BlockingDebounceClient[Any, Any] = self._client(
            BlockingDebounceClient, self.app.debounce(job)
        )
        return client

    @overload
    def worker_pool(self, job: WorkerPool[E]) -> BlockingWorkerPoolClient[E]: ...
    @overload
    def worker_pool(self, job: str) -> BlockingWorkerPoolClient[Any]: ...
    def worker_pool(
        self, job: WorkerPool[E] | str
    ) -> BlockingWorkerPoolClient[E] | BlockingWorkerPoolClient[Any]:
        """A WorkerPool, given by its definition (fully typed) or by its name."""
        client: BlockingWorkerPoolClient[Any] = self._client(
            BlockingWorkerPoolClient, self.app.worker_pool(job)
        )
        return client

    def __contains__(self, name: object) -> bool:
        return name in self.app

    def _client(
        self, make: Callable[..., Any], client: JobClient[Any, Any] | WorkerPoolClient[Any]
    ) -> Any:
        found = self._clients.get(client.name)
        if found is None:
            found = self._clients[client.name] = make(client, self._portal)
        return found


class BlockingApp(BlockingCalls):
    """An open app, blocking. Any thread of the process that opened it may use it, unless it runs an
    event loop."""

    def __init__(self, app: App, thread: LoopThread) -> None:
        super().__init__(app, ThreadPortal(thread, app))
        self._affinity = app.application.affinity
        self._thread = thread

    def close(self, *, grace: Duration | None = None) -> None:
        """End, as `App.close` does; also on a thread that runs an event loop, which is blocked.

        Nothing happens if the app has ended, and in a forked process.
        """
        if self._thread.is_stopped or self._affinity.is_inherited:
            return
        refuse_in_handler()
        try:
            with contextlib.suppress(LoopStopped):
                self._thread.call(self.app.close(grace=grace))
        finally:
            if self.app.is_closed:
                self._thread.stop()
