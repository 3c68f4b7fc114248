"""Which client speaks for which type of job: the one place on the command line that knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import RenderableType

from wakelog import Continuous, Debounce, Task
from wakelog.app import App
from wakelog.client.base import JobClient
from wakelog.client.continuous import ContinuousClient
from wakelog.client.debounce import DebounceClient
from wakelog.client.status import ContinuousStatus, DebounceStatus, Status, TaskStatus
from wakelog.client.task import TaskClient
from wakelog.errors import UnknownActionError
from wakelog.ids import InstanceId
from wakelog_adapters.cli.render import continuous as show_recurring
from wakelog_adapters.cli.render import debounce as show_batches
from wakelog_adapters.cli.render import inspect as show

__all__ = ["check_verb", "client_of", "shown_status"]

VERBS = (
    *("send", "add", "start", "trigger", "flush", "retry"),
    *("pause", "resume", "stop", "clear", "terminate"),
)
"""What commands may ask of an instance, by the names of the clients' methods."""


class Speaker(NamedTuple):
    """A type of client, and how an app gives one for a job's name."""

    client: type[JobClient[Any]]
    given: Callable[[App, str], JobClient[Any]]


_SPEAKERS: dict[str, Speaker] = {
    Task.kind: Speaker(TaskClient, App.task),
    Continuous.kind: Speaker(ContinuousClient, App.continuous),
    Debounce.kind: Speaker(DebounceClient, App.debounce),
}


def client_of(app: App, id: InstanceId) -> Any:
    """The client of the instance's job. Its type depends on that of the job."""
    return _SPEAKERS[id.kind].given(app, id.name)


def check_verb(id: InstanceId, verb: str) -> None:
    """Raise `UnknownActionError` where the instance's type of job does not know `verb`."""
    client = _SPEAKERS[id.kind].client
    if not hasattr(client, verb):
        known = ", ".join(each for each in VERBS if hasattr(client, each))
        raise UnknownActionError(verb, id.kind, f"of these commands it knows {known}")


def shown_status(found: Status) -> RenderableType:
    """How an instance stands, for people."""
    match found:
        case TaskStatus():
            return show.status(found)
        case ContinuousStatus():
            return show_recurring.status(found)
        case DebounceStatus():
            return show_batches.status(found)
