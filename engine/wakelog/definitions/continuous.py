"""Continuous: the definition of recurring work for each key, and the context of its handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Generic, NoReturn, Self

from typing_extensions import TypeForm

from wakelog.bounds import at_least
from wakelog.core.calls import HandlerCall
from wakelog.core.commands import HandlerName, Stop
from wakelog.core.instance import Instance
from wakelog.core.recurrence import CatchUp, IntervalMode, recurrence
from wakelog.core.requests import Start
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, duration_us
from wakelog.definitions.context import SettingContext
from wakelog.definitions.definition import Definition, Maybe, S
from wakelog.definitions.handlers import HandlerSlot
from wakelog.definitions.messages import Accepts
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, ValidationError, quoted
from wakelog.ids import Kind, check_id, check_text
from wakelog.kinds.behaviour import Behaviour
from wakelog.kinds.continuous import ContinuousBehaviour

__all__ = ["Continuous", "ContinuousContext"]


class ContinuousContext(SettingContext[S]):
    """A Continuous job's view of itself during one call of one handler.

    `schedule` overrides the next run, once.
    """

    __slots__ = ()

    def cancel_schedule(self) -> NoReturn:
        """Raises `InvalidStateError`: without a next run the job would be dormant."""
        raise InvalidStateError(
            f"{self.instance_id} must have a next run: use ctx.stop() to end it, ctx.pause() to "
            f"pause it, or ctx.schedule(...) to move it"
        )

    def stop(self, reason: str | None = None) -> None:
        """Let there be no further run, once this handler has ended well. The state is kept."""
        self._check_command("stop")
        if reason is not None:
            check_text(reason, "reason")
        self.commands.append(Stop(reason))


Plain = Callable[[ContinuousContext[S]], Maybe]
OnError = Callable[[ContinuousContext[S], Exception], Maybe]
OnClientGetState = Callable[[ContinuousContext[S], S], Awaitable[S | None] | S | None]


class Continuous(Definition, Generic[S]):
    """Recurring work for each key: `execute` runs again and again, on a state of its own.

        refresh = Continuous(state=Token, every="30m")

        @refresh.execute
        async def run(ctx: ContinuousContext[Token]) -> None: ...

    `every` is the interval, at least 10 ms. With `mode="fixed_delay"` it counts from the end of a
    run, with `"fixed_rate"` the runs lie on a grid that begins with the start. Or `cron`, five
    fields as in `"0 2 * * *"`, in the time zone `timezone`: a fixed hour and minute occur once a
    day, also when the clock changes; `*`, lists and steps follow the clock. `jitter` delays each
    run by up to that long.

    The first run is due at the start; with `start_immediately=False` after one interval. A run
    later than `grace` was missed: `catch_up="once"` runs once for all that were missed, `"all"`
    once for each (at most `max_catch_up`), `"skip"` not at all. A failed run never stops the
    schedule, unless `retry` asks for it. `max_running` bounds how many instances run at a time,
    over all workers. `autostart` maps ids to inputs: any worker that opens starts the instances
    that have not begun. Raises `ValidationError`.
    """

    kind: ClassVar[Kind] = "continuous"
    accepts: ClassVar[Accepts] = "start"
    needs: ClassVar[HandlerName] = "execute"

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
            issue = Issue(loc="catch_up", msg="expected 'once', 'all' or 'skip'", type="catch_up")
            raise ValidationError(f"catch_up {quoted(catch_up)}", [issue])
        if not isinstance(autostart or {}, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            issue = Issue(loc="autostart", msg="expected a mapping of ids to inputs", type="type")
            raise ValidationError(f"autostart {quoted(autostart)}", [issue])
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
        """The ids, and inputs as JSON, of the instances that a worker starts when it opens."""
        return {id: self.state.dump(input, self.name)[0] for id, input in self.autostart.items()}

    def registered(self, name: str) -> Self:
        """As for any definition; an invalid input in `autostart` raises `ValidationError` too."""
        copied = super().registered(name)
        dict(copied.autostarted)
        return copied

    def message(self, value: Any) -> str:
        """The JSON text of an input that it is started with. Raises `ValidationError`."""
        return self.state.dump(value, self.name)[0]

    def delivery(self, text: str) -> Start:
        """As for any definition: it is started."""
        self.state.load(text)
        return Start(text)

    def behaviour(self) -> Behaviour:
        """The answers of a Continuous job."""
        return self._behaviour

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> ContinuousContext[S]:
        """The context of one call."""
        return ContinuousContext(self.state, call, instance, now_us, self.resources, steps)

    # -- handlers

    @property
    def execute(self) -> HandlerSlot[Plain[S]]:
        """Called for each run, under a lease: the place for effects."""
        return self._slot("execute")

    @property
    def on_error(self) -> HandlerSlot[OnError[S]]:
        """Called with the error of a run that has no other attempt; if it ends well, the failure is
        recovered."""
        return self._slot("on_error")

    @property
    def on_retry_exhausted(self) -> HandlerSlot[OnError[S]]:
        """Called in place of `on_error` for a run that has no attempt left."""
        return self._slot("on_retry_exhausted")

    @property
    def on_client_get_state(self) -> HandlerSlot[OnClientGetState[S]]:
        """Called when an outside caller gets the state: redact, derive or enrich it."""
        return self._slot("on_client_get_state")
