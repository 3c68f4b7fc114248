"""Contexts: what handlers get. A context collects commands and performs none of them.

Steps are the one exception: see `wakelog.definitions.steps`.
"""

from __future__ import annotations

import contextvars
import logging
import random
import uuid
from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

import pydantic_core

from wakelog.core.calls import HandlerCall
from wakelog.core.commands import (
    CancelSchedule,
    Command,
    Emit,
    HandlerName,
    Pause,
    ScheduleAt,
    SetState,
)
from wakelog.core.instance import Instance, OpenRun
from wakelog.core.time import When, as_datetime, when_us
from wakelog.definitions.messages import MessageMethods, Targets
from wakelog.definitions.steps import StepMethods, StepRunner
from wakelog.errors import InvalidStateError, Issue, ValidationError
from wakelog.functions import plain_result
from wakelog.ids import check_text

if TYPE_CHECKING:
    from wakelog.definitions.schema import TypeSchema

__all__ = ["CURRENT", "ClearSignal", "Context", "EventContext", "context_of_caller"]

S = TypeVar("S")

_LOG = logging.getLogger("wakelog.job")
_UNREAD: Any = object()


class ClearSignal(BaseException):
    """Ends a handler that called `ctx.clear()`; no `Exception`, so `except Exception` lets it pass
    (U6)."""


class _Log(logging.LoggerAdapter[logging.Logger]):
    """The library's own adapter drops the `extra` of a call (until Python 3.13)."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class Context(StepMethods, MessageMethods, Generic[S]):
    """A job's view of itself during one call of one handler: what all types of job have.

    What a handler asks for takes effect when it ends well, all of it in one append, and not at all
    if it raises. After the handler has ended, reading the state or the schedule and asking for
    anything raise `InvalidStateError`.
    """

    __slots__ = (
        "_call", "_instance", "_is_given_back", "_now_us", "_open", "_random", "_schema",
        "_state", "_steps", "application", "clear_reason", "cleared", "commands", "resources",
        "targets",
    )  # fmt: skip

    def __init__(
        self,
        schema: TypeSchema[S],
        call: HandlerCall,
        instance: Instance,
        now_us: int,
        resources: Any,
        steps: StepRunner | None = None,
    ) -> None:
        self._schema = schema
        self._call = call
        self._instance = instance
        self._now_us = now_us
        self._steps = steps
        self._open = True
        self._is_given_back = False
        self._state: S | None = _UNREAD
        self._random: random.Random | None = None
        self.resources = resources
        """The argument of `Jobs(resources=…)` or `definition.with_resources(…)`."""
        self.application: Any = None
        """The engine that calls the handler; not part of the stable interface."""
        self.targets: Targets | None = None
        """The jobs that it can send messages to; set by the engine."""
        self.commands: list[Command] = []
        self.cleared = False
        self.clear_reason: str | None = None

    # -- identity and time

    @property
    def id(self) -> str:
        """The instance's own id, as in `o-17`."""
        return self._instance.id.id

    @property
    def instance_id(self) -> str:
        """The whole id, as in `task:order:o-17`."""
        return str(self._instance.id)

    @property
    def job_name(self) -> str:
        """The name under which the definition is registered."""
        return self._instance.id.name

    @property
    def now(self) -> datetime:
        """The time (aware, UTC) at which this handler was called: fixed, and recorded."""
        return as_datetime(self._now_us)

    execution_started_at = now

    @property
    def created_at(self) -> datetime:
        """When this life began (aware, UTC)."""
        return as_datetime(self._instance.started_us or self._now_us)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the instance, run and attempt (in `extra`, beside your own: as
        `instance`, `run` and `attempt`)."""
        run = self._instance.run
        return _Log(
            _LOG,
            {
                "instance": self.instance_id,
                "run": run and run.number,
                "attempt": run and run.attempt,
            },
        )

    @property
    def random(self) -> random.Random:
        """Random numbers, seeded from stream and version: the same in a replay."""
        if self._random is None:
            seed = f"{self.instance_id}@{self._instance.version}:{self._call.handler}"
            self._random = random.Random(seed)
        return self._random

    def uuid(self) -> uuid.UUID:
        """A random UUID that is the same in a replay."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    # -- the state

    @property
    def state(self) -> S | None:
        """The state with this handler's own writes, None while unset. It is a copy: changes count
        only if they are set."""
        self._check()
        if self._state is _UNREAD:
            text = self._instance.state
            self._state = None if text is None else self._schema.load(text)
        return self._state

    # -- messages and the end

    def emit(self, topic: str, payload: Any) -> None:
        """Record a message for the outside; followers of the log receive it.

        Raises `ValidationError` for a payload that is not JSON: a number must not be infinite, NaN
        or longer than 4,300 digits.
        """
        self._check_command("emit")
        if not check_text(topic, "topic"):
            issue = Issue(loc="topic", msg="must not be empty", type="topic")
            raise ValidationError("topic", [issue])
        try:
            text = pydantic_core.to_json(payload)
            pydantic_core.from_json(text, allow_inf_nan=False)  # so that any reader can read it
        except (ValueError, TypeError) as error:
            issue = Issue(loc="payload", msg=str(error), type=type(error).__name__)
            raise ValidationError(f"message on {topic!r}", [issue]) from error
        self.commands.append(Emit(topic, text.decode()))

    def pause(self, reason: str | None = None) -> None:
        """Let alarms wait and defer events, once this handler has ended, until an operator resumes
        the instance."""
        self._check_command("pause")
        if reason is not None:
            check_text(reason, "reason")
        self.commands.append(Pause(reason))

    def clear(self, reason: str | None = None) -> NoReturn:
        """End this life and this handler at once. Drops the handler's state and schedule, keeps its
        messages."""
        self._check_command("clear")
        if reason is not None:
            check_text(reason, "reason")
        self.cleared, self.clear_reason = True, reason
        raise ClearSignal

    # -- the run

    @property
    def run_count(self) -> int:
        """How many runs this life has had, the current one included; attempts do not count."""
        return self._instance.run_count

    execute_count = run_count

    @property
    def attempt(self) -> int:
        """In `execute`: the number of this attempt of the run, from 1."""
        return self._run("attempt").attempt

    @property
    def is_retry(self) -> bool:
        """In `execute`: whether an earlier attempt of this run failed or was lost."""
        return self._run("is_retry").attempt > 1

    @property
    def scheduled_for(self) -> datetime:
        """In `execute`: when this run was due (aware, UTC)."""
        return as_datetime(self._run("scheduled_for").due_us)

    @property
    def trigger(self) -> str:
        """In `execute`: why it runs: `alarm`, `manual`, `start`, `max_events`, `retry` or
        `recovery`."""
        return self._run("trigger").trigger

    # -- the handler before

    @property
    def error_source(self) -> HandlerName:
        """In `on_error` and `on_retry_exhausted`: the handler that failed."""
        if self._call.handler != "on_retry_exhausted":
            self._only("error_source", "on_error")
        return cast(HandlerName, self._call.source)

    # -- for the engine

    def returned(self, result: Any) -> None:
        """The handler has returned `result`; most types of job ignore it."""

    def read_state(self) -> None:
        """Read the state. Raises what its type raises if it does not fit."""
        if self._instance.state is not None:
            self._state = self._schema.load(self._instance.state)

    def read_batch(self) -> None:
        """Read the events that a run has taken. Raises what their type raises."""

    def close(self, *, is_given_back: bool = False) -> None:
        """The handler has ended: from now on every command raises; `is_given_back`: its run was
        taken from it."""
        self._open = False
        self._is_given_back = is_given_back
        if self._steps is not None:
            self._steps.close()

    @property
    def is_open(self) -> bool:
        """Whether the handler is still running."""
        return self._open

    def _keep(self, state: S) -> None:
        """Set the state. Raises `ValidationError` if it is invalid."""
        text, self._state = self._schema.dump(state, self.job_name)
        self.commands.append(SetState(text, 1))

    def _run(self, member: str) -> OpenRun:
        self._only(member, "execute")
        if self._call.run is None:
            raise AssertionError("execute is called with a run")
        return self._call.run

    def _only(self, member: str, handler: HandlerName) -> None:
        if self._call.handler != handler:
            raise InvalidStateError(f"ctx.{member} is for {handler}, not for {self._call.handler}")

    def _check(self) -> None:
        if not self._open:
            raise InvalidStateError(
                f"the context of {self._call.handler} of {self.instance_id} is closed: "
                f"its handler has ended (or timed out)"
            )

    def _check_command(self, member: str) -> None:
        self._check()
        if self.cleared:  # user code caught the signal: raise it again
            raise ClearSignal
        if self._call.handler == "on_client_get_state":
            raise InvalidStateError(f"ctx.{member} is not for on_client_get_state: it only reads")


CURRENT: contextvars.ContextVar[Context[Any] | None] = contextvars.ContextVar(
    "wakelog_handler", default=None
)
"""The context of the handler that is running here, so that waiting calls can be refused (U13)."""


class EventContext(Context[S]):
    """What the contexts of jobs that accept events have in addition."""

    __slots__ = ()

    @property
    def is_first_event(self) -> bool:
        """In `on_event`: whether no state had been set when the handler started."""
        self._only("is_first_event", "on_event")
        return self._instance.state is None

    @property
    def event_id(self) -> str | None:
        """In `on_event`: the sender's key, if one was given."""
        self._only("event_id", "on_event")
        return self._call.event_id

    @property
    def idle_reason(self) -> HandlerName:
        """In `on_idle`: the handler that left nothing to wait for."""
        self._only("idle_reason", "on_idle")
        return cast(HandlerName, self._call.source)


class SettingContext(Context[S]):
    """What the contexts of jobs that set their state and schedule have in addition."""

    __slots__ = ()

    def set_state(self, state: S) -> None:
        """Set the state. Raises `ValidationError`, here, if it is invalid."""
        self._check_command("set_state")
        if state is None:
            issue = Issue(loc="", msg="use clear_state() to unset the state", type="none")
            raise ValidationError(f"state of {self.job_name!r}", [issue])
        self._keep(state)

    def update_state(self, fn: Callable[[S], S]) -> None:
        """Set the state to what `fn`, a `def`, makes of it. Raises `InvalidStateError` if there is
        none yet."""
        if not callable(fn):
            issue = Issue(loc="fn", msg="must be callable", type="callable")
            raise ValidationError("update of the state", [issue])
        current = self.state
        if current is None:
            raise InvalidStateError(
                f"{self.instance_id} has no state to update yet: set_state() a first one"
            )
        self.set_state(plain_result(fn(current)))

    def clear_state(self) -> None:
        """Unset the state; the instance lives on."""
        self._check_command("clear_state")
        self._state = None
        self.commands.append(SetState(None, 1))

    def schedule(self, when: When) -> None:
        """Schedule `execute` at `when`: a duration from `ctx.now`, or an aware datetime.

        Replaces the present schedule; a time in the past is due at once. Raises `ValidationError`
        for an invalid time.
        """
        self._check_command("schedule")
        asked_us = when_us(when, self._now_us, "schedule")
        due_us = max(asked_us, self._now_us)
        self.commands.append(ScheduleAt(due_us, None if due_us == asked_us else asked_us))

    @property
    def scheduled_at(self) -> datetime | None:
        """When `execute` is due next (aware, UTC), including this handler's own calls."""
        self._check()
        due_us = self._instance.due_us
        for command in self.commands:
            if isinstance(command, ScheduleAt):
                due_us = command.due_us
            elif isinstance(command, CancelSchedule):
                due_us = None
        return None if due_us is None else as_datetime(due_us)


def context_of_caller() -> Context[Any] | None:
    """The context of the handler that is running here, if there is one."""
    ctx = CURRENT.get()
    return ctx if ctx is not None and ctx.is_open else None
