"""Windows: which accepted events are handed over together, and when (D1, D2, D4).

An event that meets no open window opens one. The window takes the events that follow until it
closes, and is handed over as one batch: the same events in each attempt. It closes when it is due,
when it is full, or when an operator flushes it; later events open the next one. So the window of an
event depends only on the clock and on the events before it, never on how late a worker is.

An instance keeps its windows in order. Only the first one is reduced and handed over; the events of
later windows wait until it is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from wakelog.core.events import FlushReason, Scheduled
from wakelog.core.time import MAX_US

__all__ = [
    "MAX_WINDOW_EVENTS",
    "NO_WINDOW",
    "Window",
    "WindowMode",
    "WindowRule",
    "WindowSlot",
    "kept",
    "placed",
    "timed",
    "without",
]

WindowMode = Literal["fixed", "sliding"]
TimedBy = Literal["policy", "operator", "sweep"]

MAX_WINDOW_EVENTS = 10_000
"""The most events of one window: all of them are read before it is handed over."""


class Window(Struct, frozen=True, array_like=True):
    """Accepted events that are handed over together."""

    number: int
    """The number of the window in its life, from 1."""
    events: tuple[int, ...]
    """The versions of its events, in order."""
    opened_us: int
    newest_us: int
    """When its newest event was accepted."""
    due_us: int
    reason: FlushReason = "flush_after"
    """Why it is due at `due_us`."""
    taken: bool = False
    """A run has taken its events: the batch no longer changes."""
    set_us: int = 0
    """The clock when `due_us` was set: later than now only if it was ahead then."""

    def is_closed(self, now_us: int) -> bool:
        """Whether an event accepted at `now_us` belongs to a later window."""
        return self.taken or self.due_us <= now_us or self.reason in ("manual", "max_events")

    def is_ready(self, now_us: int) -> bool:
        """Whether nothing but a run is missing; not if the clock was ahead when it was closed."""
        return self.taken or self.due_us <= now_us

    def timed(self, due_us: int, reason: FlushReason, by: TimedBy) -> Scheduled:
        """The event that makes this window due at `due_us`."""
        return Scheduled(due_us=due_us, action="flush", by=by, window=self.number, reason=reason)


class WindowSlot(Struct, frozen=True):
    """Where an event accepted now goes."""

    number: int | None
    """The number of its window; None if it has none."""
    must_wait: bool
    """Its window is not the first one: the event is handled after those before are gone."""
    timing: tuple[Scheduled, ...]
    """The events that change when the window is flushed."""


NO_WINDOW = WindowSlot(None, False, ())
"""The slot of an event that is handled by itself."""


class WindowRule(Struct, frozen=True):
    """How long the windows of a definition stay open, and how many events each takes."""

    flush_after_us: int
    mode: WindowMode = "fixed"
    max_wait_us: int | None = None
    max_events: int = 1_000

    def place(self, windows: tuple[Window, ...], last_number: int, now_us: int) -> WindowSlot:
        """The slot of an event accepted at `now_us`: in the newest window, or in a new one."""
        newest = windows[-1] if windows else None
        if newest is None or newest.is_closed(now_us):
            number = last_number + 1
            opened = Window(number, (), now_us, now_us, now_us)
            return WindowSlot(number, bool(windows), (self._timing(opened, 1, now_us),))
        timing = self._timing(replace(newest, newest_us=now_us), len(newest.events) + 1, now_us)
        is_moved = (timing.due_us, timing.reason) != (newest.due_us, newest.reason)
        return WindowSlot(newest.number, len(windows) > 1, (timing,) if is_moved else ())

    def retimed(
        self, windows: tuple[Window, ...], now_us: int, ahead_us: int, by_rule: bool = True
    ) -> tuple[Scheduled, ...]:
        """The events that re-time open windows which another rule has timed (C10, if `by_rule`),
        and all that were timed when the clock showed more than `ahead_us` (U9). Other closed
        windows stay as they are."""
        timings = (
            (each, self._retiming(each, now_us, ahead_us))
            for each in windows
            if by_rule or each.set_us > ahead_us
        )
        return tuple(
            timing
            for window, timing in timings
            if timing and (timing.due_us, timing.reason) != (window.due_us, window.reason)
        )

    def _retiming(self, window: Window, now_us: int, ahead_us: int) -> Scheduled | None:
        if window.is_ready(now_us):
            return None
        if window.is_closed(now_us):
            is_ahead = window.set_us > ahead_us
            return window.timed(now_us, window.reason, "sweep") if is_ahead else None
        if window.set_us > ahead_us:
            anew = replace(window, opened_us=now_us, newest_us=now_us)
            return self._timing(anew, len(window.events), now_us, "sweep")
        seen_us = max(now_us, min(window.newest_us, ahead_us))  # clocks differ by a little
        return self._timing(window, len(window.events), seen_us)

    def _timing(self, window: Window, count: int, now_us: int, by: TimedBy = "policy") -> Scheduled:
        """When a window with `count` events is due, and why. If the clock was ahead when it was
        opened, it is due no later than it is now."""
        if count >= self.max_events:
            return window.timed(now_us, "max_events", by)
        opened_us, newest_us = min(window.opened_us, now_us), min(window.newest_us, now_us)
        start_us = newest_us if self.mode == "sliding" else opened_us
        timing = window.timed(min(MAX_US, start_us + self.flush_after_us), "flush_after", by)
        bound_us = None if self.max_wait_us is None else opened_us + self.max_wait_us
        if bound_us is not None and bound_us < timing.due_us:
            timing = window.timed(bound_us, "max_wait", by)
        is_sliding = self.mode == "sliding" and timing.reason == "flush_after"
        was_ahead = (window.newest_us if is_sliding else window.opened_us) > now_us
        if was_ahead and window.due_us < timing.due_us:
            return window.timed(window.due_us, window.reason, by)
        return timing


def placed(
    windows: tuple[Window, ...], number: int, version: int, at_us: int
) -> tuple[Window, ...]:
    """The windows with a new event in the newest one, or in one that it opens; the `Scheduled` that
    follows says when the window is due."""
    newest = windows[-1] if windows else None
    if newest is None or newest.number != number:
        return (*windows, Window(number, (version,), at_us, at_us, at_us, set_us=at_us))
    return (*windows[:-1], replace(newest, events=(*newest.events, version), newest_us=at_us))


def timed(
    windows: tuple[Window, ...], number: int, due_us: int, reason: FlushReason, at_us: int
) -> tuple[Window, ...]:
    """The windows, one of which is due at `due_us`."""
    return tuple(
        replace(each, due_us=due_us, reason=reason, set_us=at_us) if each.number == number else each
        for each in windows
    )


def without(windows: tuple[Window, ...], version: int) -> tuple[Window, ...]:
    """The windows without one event; a window that becomes empty is dropped."""
    if all(version not in window.events for window in windows):
        return windows
    return kept(windows, {v for window in windows for v in window.events if v != version})


def kept(windows: tuple[Window, ...], versions: Collection[int]) -> tuple[Window, ...]:
    """The windows with these events only; a window that becomes empty is dropped."""
    left = (
        replace(window, events=tuple(v for v in window.events if v in versions))
        for window in windows
    )
    return tuple(window for window in left if window.events)
