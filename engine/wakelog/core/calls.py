"""Handler calls and their outcomes."""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.commands import Command, HandlerName
from wakelog.core.instance import Instance, OpenRun
from wakelog.core.retry import Advice

__all__ = [
    "TAKEN",
    "EventCopy",
    "HandlerCall",
    "HandlerEnded",
    "HandlerFailed",
    "Outcome",
    "PayloadUnread",
    "PoolPlace",
    "RunGivenBack",
    "Settle",
]


TAKEN = object()
"""What is left of an `EventCopy` that a handler has got."""


EPILOGUES: tuple[HandlerName, ...] = ("on_idle", "on_dead_letter", "on_empty")


class EventCopy:
    """An event as its JSON read back when it was validated, for the first handler that gets it.

    A handler may change the value that it gets, so a later call reads the JSON again.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def take(self) -> object:
        """The value, once; then `TAKEN`."""
        value, self._value = self._value, TAKEN
        return value


class PoolPlace(Struct, frozen=True, gc=False):
    """Where an event of a pool is worked on."""

    partition: int
    key: str | None
    """The partition key that its caller gave."""
    attempt: int
    processed: int
    """How many events of the pool had ended well before."""


class HandlerCall(Struct, frozen=True):
    """Which handler to call, and with what."""

    handler: HandlerName
    base: Instance
    """The instance before the handler's unit of work, or after the run's `RunStarted`."""
    payload: str | None = None
    """The event's JSON text, for `on_event`."""
    copy: EventCopy | None = None
    """The event itself, if it has just been validated."""
    batch_versions: tuple[int, ...] = ()
    """The versions of the events that the run has taken, in order."""
    batch: tuple[str, ...] = ()
    """The JSON texts of those events, once they have been read from the log."""
    event_id: str | None = None
    event_version: int | None = None
    """The version of the deferred event that is being handled."""
    attempt: int = 1
    """The number of this attempt, of the run or of handling the event."""
    run: OpenRun | None = None
    error: BaseException | None = None
    """The argument of `on_error` and `on_retry_exhausted`."""
    recovers: Settle | None = None
    """The failed settlement that `on_error` or `on_retry_exhausted` may recover."""
    source: HandlerName | None = None
    """The handler that failed (`on_error`, `on_dead_letter`), or after which nothing is left to do
    (`on_idle`)."""
    place: PoolPlace | None = None
    """For an event of a pool."""

    @property
    def is_epilogue(self) -> bool:
        """Whether it only follows what is recorded whatever it does: its failure is recorded too,
        and changes nothing else."""
        return self.handler in EPILOGUES

    @property
    def may_be_repeated(self) -> bool:
        """Whether a retry policy applies: only to a run, and to an event accepted earlier."""
        return self.recovers is None and (self.run is not None or self.event_version is not None)


class HandlerEnded(Struct, frozen=True):
    """The handler returned, or cleared its instance, after asking for these commands."""

    commands: tuple[Command, ...] = ()
    cleared: bool = False
    reason: str | None = None
    """The reason given to `ctx.clear`."""
    now_us: int = 0
    """When the handler ended."""


class HandlerFailed(Struct, frozen=True):
    """The handler raised."""

    error: BaseException
    error_type: str
    message: str
    traceback: str
    now_us: int = 0
    """When the handler ended."""
    advice: Advice = Advice()
    """What user code says about another attempt."""
    where: str = ""
    """The place in the user's code that it is from, as in `/srv/orders.py:41 in charge`."""

    @classmethod
    def by_engine(cls, error: Exception, now_us: int) -> HandlerFailed:
        """The engine raised `error` in place of the handler: there is no user's traceback."""
        return cls(error, type(error).__name__, str(error), "", now_us)


class RunGivenBack(Struct, frozen=True):
    """The engine stopped the handler (shutdown): another worker is to repeat the run."""


class PayloadUnread(Struct, frozen=True):
    """The handler was not called: this code cannot read what was recorded for it (K4)."""

    is_event: bool
    """It is the event, or one of the batch; else the state."""
    error_type: str
    message: str
    """Without the values: they may be secrets."""


Outcome = HandlerEnded | HandlerFailed | RunGivenBack | PayloadUnread


class Settle(Struct, frozen=True):
    """A handler call has ended with this outcome."""

    call: HandlerCall
    outcome: Outcome
