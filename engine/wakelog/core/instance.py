"""The instance: the state of a job at one version of its history, folded from its events.

Instances are immutable and compare as plain values, so a refold can be compared with the live one.
The user's state is kept as the JSON text from the log and decoded anew for each handler: a handler
cannot corrupt what the next one sees.
"""

from __future__ import annotations

import bisect

from msgspec import Struct
from msgspec.structs import replace

from wakelog.core.events import Trigger, WakeAction
from wakelog.core.windows import Window, kept
from wakelog.ids import InstanceId
from wakelog.sorted_chunks import SortedChunks

__all__ = [
    "MAX_DEAD_LETTERS",
    "Deferred",
    "DeferredEvent",
    "Failure",
    "Instance",
    "OpenRun",
    "PendingRetry",
    "Unread",
    "Wake",
    "blank",
    "deferred_with",
    "deferred_without",
    "next_wake",
    "ready_by",
    "retried",
    "with_windows",
]

MAX_DEAD_LETTERS = 10_000
"""The dead letters of one instance that are counted, listed and requeued: the newest ones. Older
ones are in its history only."""


class OpenRun(Struct, frozen=True, array_like=True):
    """A run of `execute` that has started and has no recorded outcome yet."""

    number: int
    attempt: int
    trigger: Trigger
    due_us: int
    started_us: int
    worker: str
    token: int
    """The version of its `RunStarted`: versions only grow, so it fences off older lease holders."""


class PendingRetry(Struct, frozen=True, array_like=True):
    """The pending next attempt of a run that failed or was lost."""

    run: int
    attempt: int
    due_us: int
    trigger: Trigger
    set_us: int = 0
    """The clock when that was decided."""


class DeferredEvent(Struct, frozen=True, array_like=True, order=True):
    """An accepted event that is still to be handled. The order of these values is the order of
    handling."""

    handle_at_us: int
    queued: int
    """The version at which it began to wait: of its acceptance, or of its last `Requeued`."""
    version: int
    attempt: int = 1
    """The number of the next attempt to handle it."""
    retry_at_us: int = 0
    """When that attempt is due, after a failed one."""
    first_us: int = 0
    """When the first attempt failed."""
    delayed: bool = False
    """It was given a time; else it is handled as soon as it can be."""
    retry_set_us: int = 0
    """The clock when `retry_at_us` was decided."""

    @property
    def ready_us(self) -> int:
        """When it can be handled."""
        return max(self.handle_at_us, self.retry_at_us)


Deferred = SortedChunks[DeferredEvent]
"""Events that wait, in the order in which they will be handled."""


class Failure(Struct, frozen=True, array_like=True):
    """The last failure, as recorded."""

    handler: str
    error_type: str
    message: str
    traceback: str
    at_us: int
    where: str = ""
    """The place in the user's code that it is from."""


class Unread(Struct, frozen=True, array_like=True):
    """What the code of a worker could not read; it waits for code that can (K4)."""

    event_version: int | None
    """The event, for a batch its first one; None if it is the state."""
    is_run: bool
    """A run was given back with it."""
    error_type: str
    message: str
    at_us: int

    @property
    def holds_all(self) -> bool:
        """Whether everything of the instance waits, not its events alone."""
        return self.is_run or self.event_version is None


class Wake(Struct, frozen=True):
    """What an instance must be woken for next."""

    due_us: int
    action: WakeAction
    """`execute` includes the next attempt of a run, if one is pending."""


class Instance(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One job instance. It exists (is alive) while `started_us` is set."""

    id: InstanceId
    version: int = 0
    recorded_us: int = 0
    """When the newest event was recorded; it never decreases."""
    lives: int = 0
    started_us: int | None = None
    state: str | None = None
    """The user's state as JSON text; None while unset."""
    state_schema: int = 1
    due_us: int | None = None
    """The schedule: the one pending wake-up that handlers and policies set."""
    due_action: WakeAction = "execute"
    due_reason: str | None = None
    """The rule by which a policy has set it."""
    due_asked_us: int = 0
    """The occurrence for which a policy has set it, which jitter may have moved to `due_us`."""
    due_local: str | None = None
    """What the clock of its time zone was to show then."""
    due_set_us: int = 0
    """The clock when the schedule was set: later than now only if it was ahead then."""
    clear_at_us: int | None = None
    """When an operator's scheduled clear is due."""
    clear_reason: str | None = None
    triggered_us: int | None = None
    """When an operator asked for a run that no worker has started yet."""
    retry: PendingRetry | None = None
    run: OpenRun | None = None
    deferred: SortedChunks[DeferredEvent] = SortedChunks()
    """Deferred and delayed events, in the order in which they will be handled."""
    windows: tuple[Window, ...] = ()
    """The batches of events that are to be handed over, in order; the state is the first one's."""
    window_count: int = 0
    """How many windows this life has had: also the number of the newest one."""
    event_count: int = 0
    """How many events this life has accepted; with windows, how many are still in one."""
    run_count: int = 0
    """How many runs this life has had: also the number of the newest one."""
    run_version: int = 0
    """The version of the newest run's first `RunStarted`: it identifies the run for ever."""
    run_began_us: int = 0
    """When attempt 1 of the newest run began; set again when an operator starts it anew."""
    run_due_us: int = 0
    """When the newest run was due, which its later attempts do not change."""
    run_reason: str | None = None
    """The rule by which a policy had scheduled the newest run."""
    run_local: str | None = None
    """What the clock of its time zone was to show when the newest run was due."""
    ran_from_us: int = 0
    ran_upto_us: int = 0
    """The schedules between these two have all had their run; later ones have not. Both may lie in
    the future if the clock was ahead."""
    last_run_us: int | None = None
    """When the newest run ended, well or not."""
    failure_count: int = 0
    losses: int = 0
    """How many times in a row a worker was lost during the current run."""
    failed: bool = False
    """The last run failed for good and no handler has ended well since."""
    paused: bool = False
    stopped: bool = False
    parked: bool = False
    blocked_reason: str | None = None
    """Why it is paused or stopped."""
    last_error: Failure | None = None
    unread: Unread | None = None
    """What waits for code that can read it."""
    dead: tuple[int, ...] = ()
    """The versions of the `DeadLettered` events of what is neither requeued nor discarded."""

    @property
    def exists(self) -> bool:
        """Whether a life has started and has not been cleared since."""
        return self.started_us is not None

    @property
    def is_blocked(self) -> bool:
        """Whether nothing may start now: a run is open, or the instance is paused, stopped or
        parked."""
        return self.run is not None or self.paused or self.stopped or self.parked

    @property
    def unfinished(self) -> int:
        """How many accepted events a clear from outside would discard."""
        return sum(len(w.events) for w in self.windows) if self.windows else len(self.deferred)

    @property
    def visible_schedule_us(self) -> int | None:
        """The schedule as handlers see it: when a window is due is not for them to see."""
        return None if self.windows else self.due_us

    @property
    def waits_for_code(self) -> bool:
        """Whether no run may start until there is code that can read what the instance holds."""
        unread = self.unread
        return unread is not None and (unread.holds_all or bool(self.windows))

    @property
    def is_retrying(self) -> bool:
        """Whether the next attempt of a run is pending, other than one that waits for code."""
        return self.retry is not None and not (self.unread is not None and self.unread.is_run)

    @property
    def unread_events(self) -> tuple[int, ...]:
        """The versions of the events that wait for code, with all of their batch if it is one; none
        if it is the state."""
        unread = self.unread
        if unread is None or unread.event_version is None:
            return ()
        is_batch = unread.is_run and bool(self.windows)
        return self.windows[0].events if is_batch else (unread.event_version,)

    @property
    def first_deferred(self) -> DeferredEvent | None:
        """The deferred event that is first; None while all of them belong to later windows than
        the first."""
        first = self.deferred.first
        if first is None or not self.windows:
            return first
        events = self.windows[0].events
        at = bisect.bisect_left(events, first.version)
        return first if at < len(events) and events[at] == first.version else None

    @property
    def next_deferred(self) -> DeferredEvent | None:
        """The deferred event to be handled next: none while the first one, or the state, waits for
        code that can read it."""
        first, unread = self.first_deferred, self.unread
        if first is None or unread is None:
            return first
        return None if unread.holds_all or unread.event_version == first.version else first

    def ready_deferred(self, now_us: int) -> DeferredEvent | None:
        """The deferred event to be handled next, if it is ready at `now_us`."""
        first = self.next_deferred
        return first if first is not None and first.ready_us <= now_us else None

    def awaits(self, version: int) -> bool:
        """Whether the accepted event of that version is still to be handled or handed over."""
        is_deferred = any(each.version == version for each in self.deferred)
        return is_deferred or any(version in each.events for each in self.windows)

    def is_busy(self, now_us: int) -> bool:
        """Whether a new event must wait: for an open run, for earlier events (one that waits for
        its next attempt blocks those behind it, one accepted while the clock was ahead too), or
        for a resume."""
        first, unread = self.deferred.first, self.unread
        return (
            self.run is not None
            or self.paused
            or (unread is not None and unread.holds_all)
            or (first is not None and (not first.delayed or first.handle_at_us <= now_us))
        )


def next_wake(instance: Instance) -> Wake | None:
    """What the instance must be woken for next; None while a run is open or nothing is due.

    The one rule behind the alarm rows. A scheduled clear comes in any case. Then, unless the
    instance is blocked or its state waits for code that can read it: the retry before the schedule
    (a due schedule waits until the run has ended with all its retries), and the earliest of the
    rest. A window is handed over once all of its events have been handled.
    """
    wake: Wake | None = None
    if instance.clear_at_us is not None:
        wake = Wake(instance.clear_at_us, "clear")
    if instance.is_blocked:
        return wake
    if instance.unread is not None and instance.unread.holds_all:
        return wake
    deferred = instance.next_deferred
    if deferred is not None:
        wake = _earlier(wake, deferred.ready_us, "deferred")
    if instance.retry is not None:
        return _earlier(wake, instance.retry.due_us, "execute")
    if instance.triggered_us is not None:
        wake = _earlier(wake, instance.triggered_us, "trigger")
    if instance.due_us is not None and not (instance.windows and instance.first_deferred):
        wake = _earlier(wake, instance.due_us, instance.due_action)
    return wake


def _earlier(wake: Wake | None, due_us: int, action: WakeAction) -> Wake:
    """The earlier of two; the first if both are due at the same time."""
    return wake if wake is not None and wake.due_us <= due_us else Wake(due_us, action)


def blank(instance: Instance) -> Instance:
    """Nothing but the history, the events that wait for the next life, in their windows, and the
    dead letters."""
    windows = instance.windows
    if windows:
        windows = kept(windows, {each.version for each in instance.deferred})
        windows = tuple(replace(window, taken=False) for window in windows)
    blank = Instance(
        instance.id,
        instance.version,
        instance.recorded_us,
        instance.lives,
        deferred=instance.deferred,
        dead=instance.dead,
    )
    if not windows:
        return blank
    return with_windows(replace(blank, window_count=instance.window_count), windows)


def with_windows(instance: Instance, windows: tuple[Window, ...]) -> Instance:
    """The schedule is when the first window is due; one that a run has taken is no longer due."""
    first = windows[0] if windows else None
    due_us = None if first is None or first.taken else first.due_us
    return replace(instance, windows=windows, due_us=due_us, due_action="flush")


# -- the events that wait --------------------------------------------------------------------------


def deferred_with(
    deferred: Deferred,
    versions: tuple[int, ...],
    queued: int,
    at_us: int,
    delayed_until_us: int | None = None,
) -> Deferred:
    """The deferred events with new ones in their place: mostly the last. Those without a delay come
    after those that wait already, even if the clock was ahead when these were accepted."""
    ready_us, delayed = delayed_until_us, True
    if ready_us is None:
        others = (each.handle_at_us for each in reversed(deferred) if not each.delayed)
        ready_us, delayed = max(at_us, next(others, 0)), False
    for each in versions:
        deferred = deferred.plus(DeferredEvent(ready_us, queued, each, delayed=delayed))
    return deferred


def deferred_without(deferred: Deferred, version: int) -> Deferred:
    """The deferred events without one that has been handled: mostly the first."""
    gone = next((each for each in deferred if each.version == version), None)
    return deferred if gone is None else deferred.minus(gone)


def ready_by(deferred: Deferred, due_us: int) -> Deferred:
    """The deferred events, none without a delay later than `due_us`: they were accepted while the
    clock was ahead."""
    return Deferred.of(
        each if each.delayed or each.handle_at_us <= due_us else replace(each, handle_at_us=due_us)
        for each in deferred
    )


def retried(deferred: Deferred, version: int, attempt: int, due_us: int, at_us: int) -> Deferred:
    """The deferred events, one of which waits for its next attempt. Its delay, if it had one, is
    over, also if the clock was ahead when it ended."""
    before = next((each for each in deferred if each.version == version), None)
    if before is None:
        return deferred
    waiting = replace(
        before,
        handle_at_us=min(before.handle_at_us, at_us),
        attempt=attempt,
        retry_at_us=due_us,
        first_us=before.first_us or at_us,
        retry_set_us=at_us,
    )
    return deferred.minus(before).plus(waiting)
