"""The blocking app: the same calls as the async one, made on an event loop from other threads.

The calls are made from the source of the async ones (`make blocking`); here is what joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from wakelog.app import App
from wakelog.blocking.continuous import BlockingContinuousClient
from wakelog.blocking.debounce import BlockingDebounceClient
from wakelog.blocking.following import BlockingFollowing
from wakelog.blocking.portal import AppPortal, Portal
from wakelog.blocking.questions import BlockingQuestions
from wakelog.blocking.task import BlockingTaskClient
from wakelog.blocking.worker_pool import BlockingWorkerPoolClient
from wakelog.client.base import JobClient
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.core.time import Duration
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.task import Task
from wakelog.definitions.worker_pool import WorkerPool

__all__ = ["BlockingApp", "BlockingCalls"]

S = TypeVar("S")
E = TypeVar("E")


class BlockingCalls(BlockingQuestions):
    """The calls of an app and its clients, made blocking by a portal; see `App` for each method."""

    def __init__(self, app: App, portal: Portal) -> None:
        super().__init__(app, portal)
        self._clients: dict[str, Any] = {}

    def follow(
        self, name: str, *, topics: Sequence[str] = (), wait: bool = True
    ) -> BlockingFollowing:
        """The messages for the outside that the follower of this name has not handled yet; see
        `App.follow`. Raises `ValidationError`."""
        return BlockingFollowing(self.app.follow(name, topics=topics, wait=wait), self._portal)

    @overload
    def task(self, job: Task[S, E]) -> BlockingTaskClient[S, E]: ...
    @overload
    def task(self, job: str) -> BlockingTaskClient[Any, Any]: ...
    def task(
        self, job: Task[S, E] | str
    ) -> BlockingTaskClient[S, E] | BlockingTaskClient[Any, Any]:
        """The instances of a Task, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
        client: BlockingTaskClient[Any, Any] = self._client(BlockingTaskClient, self.app.task(job))
        return client

    @overload
    def continuous(self, job: Continuous[S]) -> BlockingContinuousClient[S]: ...
    @overload
    def continuous(self, job: str) -> BlockingContinuousClient[Any]: ...
    def continuous(
        self, job: Continuous[S] | str
    ) -> BlockingContinuousClient[S] | BlockingContinuousClient[Any]:
        """The instances of a Continuous job, given by its definition (fully typed) or its name.

        Raises `UnknownJobError`.
        """
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
        """The instances of a Debounce, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
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
        """A WorkerPool, given by its definition (fully typed) or by its name.

        Raises `UnknownJobError`.
        """
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

    def __init__(self, app: App, portal: AppPortal) -> None:
        super().__init__(app, portal)
        self._app_portal = portal

    def close(self, *, grace: Duration | None = None) -> None:
        """End, as `App.close` does; also on a thread that runs an event loop, which is blocked,
        unless it is the app's own.

        Nothing happens if the app has ended, and in a forked process. `app.blocking` and its app
        have one end: closing it closes the app.
        """
        self._app_portal.close(grace)
