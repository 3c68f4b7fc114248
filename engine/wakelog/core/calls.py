"""Calls of handlers, and how they ended."""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.commands import Command, HandlerName
from wakelog.core.instance import Instance, OpenRun
from wakelog.core.retry import Advice

__all__ = ["Ended", "GaveBack", "HandlerCall", "HandlerFailed", "Outcome", "Settle"]


class HandlerCall(Struct, frozen=True):
    """Which handler to call, and with what."""

    handler: HandlerName
    base: Instance
    """The instance as it was before the handler's unit of work, or when its run had started."""
    payload: str | None = None
    """The event's JSON text, for `on_event`."""
    batch: tuple[str, ...] = ()
    """The JSON texts of the events that the run has taken, in order."""
    event_id: str | None = None
    event_version: int | None = None
    """The version of the deferred event that is being handled."""
    attempt: int = 1
    """Which try it is, of the run or of handling the event."""
    run: OpenRun | None = None
    error: BaseException | None = None
    """What `on_error` is told."""
    recovers: Settle | None = None
    """The failed settlement that `on_error` is asked to recover."""
    source: HandlerName | None = None
    """Which handler failed (`on_error`), or after which one nothing is left to do (`on_idle`)."""

    @property
    def may_be_repeated(self) -> bool:
        """Whether a policy may have it tried again: only a run, and an accepted event."""
        return self.recovers is None and (self.run is not None or self.event_version is not None)


class Ended(Struct, frozen=True):
    """The handler returned, or cleared its instance, having asked for these commands."""

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
    advice: Advice = Advice()
    """What user code says about another attempt."""


class GaveBack(Struct, frozen=True):
    """The engine itself stopped the handler: the run is to be done again by somebody else."""


Outcome = Ended | HandlerFailed | GaveBack


class Settle(Struct, frozen=True):
    """A call has ended: what follows from its outcome?"""

    call: HandlerCall
    outcome: Outcome
