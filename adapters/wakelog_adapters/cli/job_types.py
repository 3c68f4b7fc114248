"""The one table of the types of jobs on the command line: a new type is one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import RenderableType

from wakelog import Continuous, Debounce, Task, WorkerPool
from wakelog.app import App
from wakelog.client.base import JobClient
from wakelog.client.continuous import ContinuousClient
from wakelog.client.debounce import DebounceClient
from wakelog.client.job_types import Status
from wakelog.client.pool.results import PoolStatus
from wakelog.client.task import TaskClient
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.errors import StoreUnavailableError, UnknownActionError
from wakelog.ids import InstanceId
from wakelog_adapters.cli.render import continuous, debounce, task, worker_pool

__all__ = [
    "INSTANCE_KINDS", "JOB_TYPES", "POOL", "JobType", "check_instances", "check_verb", "client_of",
    "pool_name", "render_status", "sound", "status_of", "whole_id",
]  # fmt: skip


class JobType(NamedTuple):
    """How the command line talks to the instances of one type of job."""

    client: type[JobClient[Any, Any] | WorkerPoolClient[Any]]
    """Its methods have the names of the commands."""
    open: Callable[[App, str], JobClient[Any, Any] | WorkerPoolClient[Any]]
    """The client of a job, by the job's name."""
    render_status: Callable[[Any], RenderableType]
    has_instances: bool = True


JOB_TYPES: dict[str, JobType] = {
    Task.kind: JobType(TaskClient, App.task, task.status),
    Continuous.kind: JobType(ContinuousClient, App.continuous, continuous.status),
    Debounce.kind: JobType(DebounceClient, App.debounce, debounce.status),
    WorkerPool.kind: JobType(
        WorkerPoolClient, App.worker_pool, worker_pool.status, has_instances=False
    ),
}
POOL = WorkerPool.kind
INSTANCE_KINDS = tuple(kind for kind, job_type in JOB_TYPES.items() if job_type.has_instances)
"""The types of jobs of which there are instances, with commands of their own."""

VERBS = (
    *("send", "add", "start", "trigger", "flush", "retry"),
    *("pause", "resume", "stop", "clear", "terminate"),
    *("requeue", "discard", "dead_letter"),
)
"""The commands that go to one instance, by the names of the clients' methods."""


_ADVICE = "see wakelog enqueue {0}, wakelog pool status {0} and wakelog pool --help"


def pool_name(word: str) -> str:
    """The name of a pool, given by its name or as a job, as in `workerPool:emails`."""
    return word.removeprefix(f"{POOL}:")


def whole_id(word: str) -> str:
    """The id of what a word with a colon names; `workerPool:emails` is the pool as a whole."""
    is_pool = word.startswith(f"{POOL}:") and word.count(":") == 1
    return f"{word}:shared" if is_pool else word


async def status_of(app: App, id: InstanceId) -> Any:
    """The status of an instance; of a pool, if it is one of its partitions or `shared`.

    Raises `UnknownActionError` for an event of a pool, or a pool that the store does not have.
    """
    if JOB_TYPES[id.kind].has_instances:
        return await app.status_of(str(id))
    for status in await app.pools():
        if status.name == id.name and (id.id.isdecimal() or id.id == "shared"):
            return sound(status)
    raise UnknownActionError("show the status of this", id.kind, _ADVICE.format(id.name))


def sound(status: PoolStatus) -> PoolStatus:
    """The status of the one pool that was asked for. Raises `StoreUnavailableError` if it is
    damaged."""
    if status.damaged is not None:
        raise StoreUnavailableError("damaged", status.damaged)
    return status


def client_of(app: App, id: InstanceId) -> Any:
    """The client of the instance's job. Its type depends on the type of the job."""
    return JOB_TYPES[id.kind].open(app, id.name)


def check_verb(id: InstanceId, verb: str) -> None:
    """Raise `UnknownActionError` if the instance's type of job has no such command."""
    check_instances(id, verb)
    client = JOB_TYPES[id.kind].client
    if not hasattr(client, verb):
        known = ", ".join(each for each in VERBS if hasattr(client, each)).replace("_", "-")
        raise UnknownActionError(verb, id.kind, f"of these commands it knows {known}")


def check_instances(id: InstanceId, action: str) -> None:
    """Raise `UnknownActionError` if there are no instances of its type of job."""
    if not JOB_TYPES[id.kind].has_instances:
        advice = f"it has no instances; {_ADVICE.format(id.name)}"
        raise UnknownActionError(action, id.kind, advice)


def render_status(status: Status | PoolStatus) -> RenderableType:
    """The status of an instance or a pool, for people. An unknown type of job has the status of a
    Task, as for `app.status_of`."""
    if isinstance(status, PoolStatus):
        return worker_pool.status(status)
    kind = InstanceId.parse(status.instance_id).kind
    return JOB_TYPES.get(kind, JOB_TYPES[Task.kind]).render_status(status)
