"""The part of a context that sends messages to other jobs (I2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from wakelog.arguments import check_key, check_priority
from wakelog.core.commands import Command, Send
from wakelog.errors import Issue, ValidationError
from wakelog.ids import check_id

if TYPE_CHECKING:
    from wakelog.definitions.schema import TypeSchema

__all__ = ["Accepts", "MessageMethods", "Receiver", "Startable", "Target", "Targets"]

E = TypeVar("E")

Accepts = Literal["send", "start", "enqueue"]
"""By which of these calls a job is sent a message."""


class Receiver(Protocol[E]):
    """A definition of a job that accepts events."""

    event: TypeSchema[E]


class Startable(Protocol[E]):
    """A definition of a job that is started with an input, its first state."""

    state: TypeSchema[E]


class Target(Protocol):
    """A registered definition, as the target of a message."""

    accepts: ClassVar[Accepts]

    @property
    def job(self) -> str:
        """Kind and name, as in `task:order`."""
        ...

    def message(self, value: Any) -> str:
        """The JSON text of an event, or an input, that it is sent. Raises `ValidationError`."""
        ...


class Targets(Protocol):
    """The registered definitions."""

    def target(self, job: Any) -> Target:
        """That of a name or a definition object. Raises `UnknownJobError`, and `ValidationError`
        for anything else."""
        ...


class MessageMethods:
    """Messages to other jobs of the same store. Each is checked at the call, recorded with what
    else the handler asks for, and delivered after that: in order between two instances, once."""

    __slots__ = ()

    targets: Targets | None
    commands: list[Command]

    def send(self, job: Receiver[E] | str, id: str, event: E) -> None:
        """Send `event` to instance `id` of a Task or a Debounce, given by its definition or name.

        It is accepted there after this handler has ended well, as a deferred event. Raises
        `ValidationError` for an event that does not fit, `InvalidIdError` and `UnknownJobError`.
        """
        target = self._target("send", job)
        text = target.message(event)
        self.commands.append(Send(f"{target.job}:{check_id(id)}", text))

    def start(self, job: Startable[E] | str, id: str, input: E) -> None:
        """Start instance `id` of a Continuous job with `input` as its first state, after this
        handler has ended well; nothing happens if it is going on. Raises as `send`."""
        target = self._target("start", job)
        text = target.message(input)
        self.commands.append(Send(f"{target.job}:{check_id(id)}", text))

    def enqueue(
        self,
        job: Receiver[E] | str,
        event: E,
        *,
        partition_key: str | None = None,
        priority: int = 0,
    ) -> None:
        """Put `event` into a WorkerPool, after this handler has ended well. Raises as `send`."""
        target = self._target("enqueue", job)
        text = target.message(event)
        key = None if partition_key is None else check_key(partition_key)
        self.commands.append(Send(target.job, text, key, check_priority(priority)))

    def _target(self, call: Accepts, job: Any) -> Target:
        self._check_command(call)
        if self.targets is None:
            raise AssertionError("a handler is called of a registered definition")
        target = self.targets.target(job)
        if target.accepts != call:
            message = f"it is sent messages by ctx.{target.accepts}, not by ctx.{call}"
            raise ValidationError(target.job, [Issue(loc="", msg=message, type="job")])
        return target

    def _check_command(self, member: str) -> None:
        raise NotImplementedError
