"""When a worker looks again for something due: at the next alarm, and otherwise by polling."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from wakelog.application import Application
from wakelog.ports.units import NothingDue
from wakelog.worker.claims import next_due_us

__all__ = ["ENDED_US", "LOST_US", "NextLook"]

ENDED_US = 1_000_000
"""How soon to look again whether other workers' runs of a job at its limit have ended."""
LOST_US = 50_000
"""How long to wait before the next look after other workers were faster."""


class NextLook:
    """Remembers the last look. Its thread is the alarm clock's; the others only read or hint."""

    def __init__(self, app: Application, jobs: Sequence[str]) -> None:
        self._app = app
        self._jobs = jobs
        self._has_limits = bool(app.registry.limits())
        self._empty_claim_us = -1
        self._nothing_due: NothingDue | None = None
        """What the present look has seen already, so that the store is asked once."""
        self._is_full = False
        """Whether the present look has claimed all that there was room for."""
        self._retry_us = 0
        self._lock = threading.Lock()
        self._is_looking = False
        self._set_us: int | None = None
        """The earliest alarm that was set during the present look, which may have missed it."""
        self.at_us: int | None = None
        """When the alarm clock looks next; None while it looks, and if only a wake-up brings it."""
        self._notified = False
        """Whether the present look was brought by another process's alarm."""
        self._notified_next = False

    def begin(self) -> None:
        """A look begins."""
        with self._lock:
            self._is_looking = True
            self.at_us = self._set_us = None
        self._nothing_due = None
        self._is_full = False
        self._notified, self._notified_next = self._notified_next, False

    def claimed(
        self, now_us: int, count: int, nothing_due: NothingDue | None, *, is_full: bool
    ) -> None:
        """The look at `now_us` has claimed so many instances, or found `nothing_due`. `is_full`: as
        many as it could, so that more may be due."""
        self._is_full = is_full
        self._nothing_due = nothing_due
        self._empty_claim_us = -1 if count else now_us
        self._retry_us = now_us + LOST_US if self._notified and not count else 0

    def next_us(self, now_us: int) -> int | None:
        """When to look again. Blocks.

        What was due a moment ago and could not be claimed (another worker was faster) is not worth
        a second look at once. Alarms that other processes set are notified, or found by polling;
        so are leases that end early.
        """
        next_us = now_us if self._is_full else self._after_a_look_us(now_us)
        with self._lock:
            self._is_looking = False
            looks = [at_us for at_us in (next_us, self._set_us) if at_us is not None]
            self.at_us = min(looks, default=None)
        return self.at_us

    def _after_a_look_us(self, now_us: int) -> int | None:
        app, store = self._app, self._app.store
        if self._nothing_due is not None:
            due_us = self._nothing_due.next_due_us
        else:
            due_us = next_due_us(app, self._jobs, now_us)
        if due_us is not None and due_us <= self._empty_claim_us:
            due_us = now_us + LOST_US
        looks = [] if due_us is None else [due_us]
        if store.poll_us is not None:
            looks.append(now_us + min(store.poll_us, app.settings.lease_us))
        if self._has_limits and (store.next_due_us(self._jobs, now_us) or now_us + 1) <= now_us:
            looks.append(now_us + ENDED_US)
        if self._retry_us:
            looks.append(self._retry_us)
        return min(looks, default=None)

    def comes_too_late(self, due_us: int) -> bool:
        """An alarm at `due_us` was set: whether it would be looked at too late. Any thread may
        ask."""
        with self._lock:
            if self._is_looking:
                self._set_us = due_us if self._set_us is None else min(due_us, self._set_us)
                return False
            return self.at_us is None or due_us < self.at_us

    def expects_others_alarm(self, due_us: int) -> bool:
        """Another process has set an alarm; whether to look for it. Any thread may ask.

        Every worker is notified but one wins the claim; the others retry after `LOST_US`.
        """
        at_us = self.at_us
        if at_us is not None and at_us <= self._retry_us:
            return False
        self._notified_next = 0 < due_us <= self._app.clock.now_us()
        return True
