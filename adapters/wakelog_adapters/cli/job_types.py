"""The one table of the types of jobs on the command line: a new type is one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import RenderableType

from wakelog import Continuous, Debounce, Task
from wakelog.app import App
from wakelog.client.base import JobClient
from wakelog.client.continuous import ContinuousClient
from wakelog.client.debounce import DebounceClient
from wakelog.client.job_types import Status
from wakelog.client.task import TaskClient
from wakelog.errors import UnknownActionError
from wakelog.ids import InstanceId
from wakelog_adapters.cli.render import continuous, debounce, task

__all__ = ["JOB_TYPES", "JobType", "check_verb", "client_of", "render_status"]


class JobType(NamedTuple):
    """How the command line talks to the instances of one type of job."""

    client: type[JobClient[Any, Any]]
    """Its methods have the names of the commands."""
    open: Callable[[App, str], JobClient[Any, Any]]
    """The client of a job, by the job's name."""
    render_status: Callable[[Any], RenderableType]


JOB_TYPES: dict[str, JobType] = {
    Task.kind: JobType(TaskClient, App.task, task.status),
    Continuous.kind: JobType(ContinuousClient, App.continuous, continuous.status),
    Debounce.kind: JobType(DebounceClient, App.debounce, debounce.status),
}

VERBS = (
    *("send", "add", "start", "trigger", "flush", "retry"),
    *("pause", "resume", "stop", "clear", "terminate"),
    *("requeue", "discard", "dead_letter"),
)
"""The commands that go to one instance, by the names of the clients' methods."""


def client_of(app: App, id: InstanceId) -> Any:
    """The client of the instance's job. Its type depends on the type of the job."""
    return JOB_TYPES[id.kind].open(app, id.name)


def check_verb(id: InstanceId, verb: str) -> None:
    """Raise `UnknownActionError` if the instance's type of job has no such command."""
    client = JOB_TYPES[id.kind].client
    if not hasattr(client, verb):
        known = ", ".join(each for each in VERBS if hasattr(client, each))
        raise UnknownActionError(verb, id.kind, f"of these commands it knows {known}")


def render_status(status: Status) -> RenderableType:
    """The status of an instance, for people. An unknown type of job has the status of a Task,
    as for `app.status_of`."""
    kind = InstanceId.parse(status.instance_id).kind
    return JOB_TYPES.get(kind, JOB_TYPES[Task.kind]).render_status(status)
