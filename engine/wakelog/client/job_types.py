"""The one table of clients: which type of job has which client and which status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, NoReturn

from wakelog.application import Application
from wakelog.client.base import JobClient, MakeStatus
from wakelog.client.continuous import ContinuousClient, ContinuousStatus, continuous_status
from wakelog.client.debounce import DebounceClient, DebounceStatus, debounce_status
from wakelog.client.gateway import RequestGateway
from wakelog.client.pool.histories import pool_history
from wakelog.client.task import TaskClient, TaskStatus, task_status
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.definitions.continuous import Continuous
from wakelog.definitions.debounce import Debounce
from wakelog.definitions.task import Task
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.errors import UnknownActionError
from wakelog.history.timeline import HistoryEntry, history
from wakelog.ids import InstanceId, Kind
from wakelog.ports.rows import StatusRow

__all__ = ["CLIENTS", "POOLS", "ClientType", "Status", "check_instances", "make_status"]

Status = TaskStatus | ContinuousStatus | DebounceStatus
"""The status of an instance of any type of job."""


class ClientType(NamedTuple):
    """What the clients of one type of job are made of."""

    client: Callable[[RequestGateway, Any], JobClient[Any, Any] | WorkerPoolClient[Any]]
    make_status: MakeStatus[Status]
    history: Callable[[Application, InstanceId], Awaitable[list[HistoryEntry]]]
    has_instances: bool = True


async def _history(app: Application, id: InstanceId) -> list[HistoryEntry]:
    return await app.threads.browse(history, app.store, id)


def _no_status(stream: str, row: StatusRow | None, *, unhandled: bool) -> NoReturn:
    what = "it has no instances: ask app.worker_pool(name).status() or .get(event_id)"
    raise UnknownActionError("have a status or a state", "workerPool", what)


CLIENTS: dict[Kind, ClientType] = {
    Task.kind: ClientType(TaskClient, task_status, _history),
    Continuous.kind: ClientType(ContinuousClient, continuous_status, _history),
    Debounce.kind: ClientType(DebounceClient, debounce_status, _history),
    WorkerPool.kind: ClientType(WorkerPoolClient, _no_status, pool_history, has_instances=False),
}
POOLS = tuple(kind for kind, types in CLIENTS.items() if not types.has_instances)
"""The types of jobs that have partitions instead of instances."""


def check_instances(stream: str, kind: Kind) -> None:
    """Raise `UnknownActionError` if there are no instances of this type of job."""
    if not CLIENTS[kind].has_instances:
        _no_status(stream, None, unhandled=False)


def make_status(stream: str, kind: Kind, row: StatusRow | None, *, unhandled: bool) -> Status:
    """The status of an instance, from its status row. A type of job without clients has no
    instances: one that is not found reads the same for every type."""
    types = CLIENTS.get(kind, CLIENTS[Task.kind])
    return types.make_status(stream, row, unhandled=unhandled)
