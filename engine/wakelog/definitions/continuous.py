"""Continuous: the definition of recurring work for each key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar, overload

from typing_extensions import TypeForm

from wakelog.arguments import at_least
from wakelog.core.calls import HandlerCall
from wakelog.core.commands import HandlerName, Stop
from wakelog.core.instance import Instance
from wakelog.core.recurrence import CatchUp, IntervalMode, recurrence
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, duration_us
from wakelog.definitions.context import SettingContext
from wakelog.definitions.definition import Definition
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, ValidationError
from wakelog.ids import Kind, check_id, check_text
from wakelog.kinds.behaviour import Behaviour
from wakelog.kinds.continuous import ContinuousBehaviour

__all__ = ["Continuous", "ContinuousContext"]

S = TypeVar("S")

Maybe = Awaitable[None] | None


class Continuous(Definition, Generic[S]):
    """Recurring work for each key: `execute` runs again and again, on a state of its own.

        refresh = Continuous(state=Token, every="30m")

        @refresh.execute
        async def run(ctx: ContinuousContext[Token]) -> None: ...

    `every` is the interval, 10 ms at least. With `mode="fixed_delay"` it counts from the end of a
    run, with `"fixed_rate"` the runs lie on a grid that began with the start. Or `cron`, five
    fields as in `"0 2 * * *"`, in the time zone `timezone`: a fixed hour and minute come once a day
    over the changes of the clock; `*`, lists and steps follow the clock. `jitter` spreads each run
    by up to that long.

    The first run is due at the start; with `start_immediately=False` after one interval. What is
    later than `grace` was missed: `catch_up="once"` runs once for all that was missed, `"all"` once
    for each (at most `max_catch_up`), `"skip"` not at all. A failed run never stops the schedule
    unless `retry` says so. `max_running` bounds how many instances run at a time, over all workers.
    `autostart` maps ids to inputs of what is to be started by any worker
    that opens. Raises `ValidationError`.
    """

    kind: ClassVar[Kind] = "continuous"
    needs: ClassVar[HandlerName] = "execute"
    has_rule: ClassVar[bool] = True

    def __init__(
        self,
        *,
        state: TypeForm[S],
        every: Duration | None = None,
        mode: IntervalMode = "fixed_delay",
        cron: str | None = None,
        timezone: str = "UTC",
        jitter: Duration | None = None,
        start_immediately: bool = True,
        grace: Duration = "60s",
        catch_up: CatchUp = "once",
        max_catch_up: int = 100,
        retry: Retry | None = None,
        max_running: int | None = None,
        autostart: Mapping[str, S] | None = None,
    ) -> None:
        super().__init__(max_waiting=1, max_running=max_running, retry=retry)
        self.state = TypeSchema[S](state, "state")
        self.event = TypeSchema[Any](Any, "event")
        self.recurrence = recurrence(
            every=every, cron=cron, mode=mode, zone=timezone, jitter=jitter
        )
        at_least(1, "max_catch_up", max_catch_up)
        if catch_up not in ("once", "all", "skip"):
            issue = Issue(loc="catch_up", msg="give 'once', 'all' or 'skip'", type="catch_up")
            raise ValidationError(f"catch_up {catch_up!r}", [issue])
        if not isinstance(autostart or {}, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            issue = Issue(loc="autostart", msg="give a mapping of ids to inputs", type="type")
            raise ValidationError(f"autostart {autostart!r}", [issue])
        self.autostart = {check_id(id): input for id, input in (autostart or {}).items()}
        self._behaviour = ContinuousBehaviour(
            recurrence=self.recurrence,
            start_immediately=start_immediately,
            grace_us=duration_us(grace, "grace"),
            catch_up=catch_up,
            max_catch_up=max_catch_up,
        )

    @property
    def autostarted(self) -> Mapping[str, str]:
        """Ids, and inputs as JSON, of what a worker starts when it opens."""
        return {id: self.state.dump(input, self.name)[0] for id, input in self.autostart.items()}

    def registered(self, name: str) -> Self:
        """As for any definition; inputs of `autostart` that do not fit are refused here."""
        copied = super().registered(name)
        dict(copied.autostarted)
        return copied

    def behaviour(self) -> Behaviour:
        """A continuous job's."""
        return self._behaviour

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> ContinuousContext[S]:
        """A continuous job's."""
        return ContinuousContext(self.state, call, instance, now_us, self.resources, steps)

    @overload
    def execute(self, fn: Callable[[ContinuousContext[S]], Maybe], /) -> Plain[S]: ...
    @overload
    def execute(self, /, *, timeout: Duration) -> Callable[[Plain[S]], Plain[S]]: ...
    def execute(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called for each run, under a lease: the place for effects."""
        return self._add("execute", fn, timeout)

    @overload
    def on_error(
        self, fn: Callable[[ContinuousContext[S], BaseException], Maybe], /
    ) -> OnError[S]: ...
    @overload
    def on_error(self, /, *, timeout: Duration) -> Callable[[OnError[S]], OnError[S]]: ...
    def on_error(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called with the error of a run that is not tried again; if it ends well, all is well."""
        return self._add("on_error", fn, timeout)

    @overload
    def on_retry_exhausted(
        self, fn: Callable[[ContinuousContext[S], BaseException], Maybe], /
    ) -> OnError[S]: ...
    @overload
    def on_retry_exhausted(self, /, *, timeout: Duration) -> Callable[[OnError[S]], OnError[S]]: ...
    def on_retry_exhausted(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called in the place of `on_error` for a run that has no attempt left."""
        return self._add("on_retry_exhausted", fn, timeout)

    @overload
    def on_client_get_state(
        self, fn: Callable[[ContinuousContext[S], S], Awaitable[S | None] | S | None], /
    ) -> OnClientGetState[S]: ...
    @overload
    def on_client_get_state(
        self, /, *, timeout: Duration
    ) -> Callable[[OnClientGetState[S]], OnClientGetState[S]]: ...
    def on_client_get_state(self, fn: Any = None, /, *, timeout: Duration | None = None) -> Any:
        """Called when an outside caller asks for the state: redact, derive or enrich it."""
        return self._add("on_client_get_state", fn, timeout)


class ContinuousContext(SettingContext[S]):
    """A Continuous job's view of itself during one call of one handler.

    `schedule` overrides the next run, once.
    """

    __slots__ = ()

    def cancel_schedule(self) -> NoReturn:
        """Raises `InvalidStateError`: without a next run the job would be dormant."""
        raise InvalidStateError(
            f"{self.instance_id} must have a next run: use ctx.stop() to end it, ctx.pause() to "
            f"hold it, or ctx.schedule(...) to move it"
        )

    def stop(self, reason: str | None = None) -> None:
        """Once this handler has ended well: let there be no further run. The state is kept."""
        self._check_command("stop")
        if reason is not None:
            check_text(reason, "reason")
        self.commands.append(Stop(reason))


OnClientGetState = Callable[[ContinuousContext[S], S], Awaitable[S | None] | S | None]


OnError = Callable[[ContinuousContext[S], BaseException], Maybe]


Plain = Callable[[ContinuousContext[S]], Maybe]
