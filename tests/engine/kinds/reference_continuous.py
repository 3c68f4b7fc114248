"""A tiny reference: what a Continuous job must do, in plain Python, without a log.

Times are microseconds. Runs take no time and do what a word says (`WORDS`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = [
    "DELAY_US",
    "HOUR_US",
    "LEASE_US",
    "MAX_ATTEMPTS",
    "MAX_CATCH_UP",
    "WORDS",
    "Model",
]

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
GRACE_US = MINUTE_US
LEASE_US = 30_000_000
DELAY_US = 2 * MINUTE_US
"""Of the retry policy, between two attempts."""
MAX_ATTEMPTS = 3
MAX_CATCH_UP = 3
WORDS = ("count", "raise", "again", "give up", "stop", "pause", "move", "clear")


@dataclass
class Model:
    """One instance. It exists while `origin_us` is set."""

    is_grid: bool
    by_cron: bool
    on_exhausted: str
    catch_up: str
    origin_us: int | None = None
    state: int = 0
    due_us: int | None = None
    from_start: bool = False
    """Whether a start has set what is due."""
    asked_us: int | None = None
    retry: tuple[int, int] | None = None
    """The next attempt, and when it is due."""
    leased_until_us: int | None = None
    """Set while a run is open."""
    attempt: int = 0
    runs: int = 0
    run_due_us: int = 0
    stopped: bool = False
    paused: bool = False
    failed: bool = False

    @property
    def alive(self) -> bool:
        return self.origin_us is not None

    @property
    def running(self) -> bool:
        return self.leased_until_us is not None

    @property
    def word(self) -> str:
        """How it must stand."""
        if not self.alive:
            return "not_found"
        if self.stopped:
            return "stopped"
        if self.failed:
            return "failed"
        if self.paused:
            return "paused"
        return "retrying" if self.retry else "active"

    def copy(self) -> Model:
        return replace(self)

    # -- requests: each answers whether it writes anything

    def start(self, now_us: int) -> bool:
        if self.alive and not self.stopped:
            return False
        if not self.alive:
            self.origin_us, self.state = now_us, 0
        self.stopped = self.failed = False
        self.due_us, self.from_start = now_us, True
        return True

    def stop(self, now_us: int) -> bool:
        if not self.alive or self.stopped:
            return False
        self._stopped()
        return True

    def pause(self, now_us: int) -> bool:
        if not self.alive or self.paused or self.stopped:
            return False
        self.paused = True
        return True

    def resume(self, now_us: int) -> bool:
        was_paused, self.paused = self.paused, False
        return was_paused

    def trigger(self, now_us: int) -> bool:
        if not self.alive or self._held or self.asked_us is not None:
            return False
        if self.again(now_us):
            return True
        self.asked_us = now_us
        return True

    def again(self, now_us: int) -> bool:
        """`retry`: the failed or waiting run, at attempt 1."""
        if self._held or not (self.retry or self.failed):
            return False
        self.retry, self.failed = (1, now_us), False
        return True

    def terminate(self, now_us: int) -> bool:
        was_alive = self.alive
        self._cleared()
        return was_alive

    # -- runs

    def claimable_us(self) -> int | None:
        """When a worker can take it."""
        if not self.alive:
            return None
        if self.leased_until_us is not None:
            return self.leased_until_us
        if self._held:
            return None
        if self.retry:
            return self.retry[1]
        return min((at for at in (self.asked_us, self.due_us) if at is not None), default=None)

    def claim(self, now_us: int) -> bool:
        """A worker takes it; answers whether a run has begun."""
        if self.running:
            return self._lost(now_us)
        if self.retry:
            self.attempt, self.retry = self.retry[0], None
        elif self.asked_us is not None and (self.due_us is None or self.asked_us <= self.due_us):
            self._new_run(self.asked_us)
            self.asked_us = None
        elif self.due_us is not None:
            is_missed = not self.from_start and now_us - self.due_us > GRACE_US
            due_us = self._caught_up(self.due_us, now_us) if is_missed else self.due_us
            self.due_us, self.from_start = None, False
            if due_us is None:
                self._set_next(now_us, now_us)
                return False
            self._new_run(due_us)
        self.failed = False
        self.leased_until_us = now_us + LEASE_US
        return True

    def finish(self, word: str, now_us: int) -> None:
        """The run ends, and does as the word says."""
        self.leased_until_us = None
        match word:
            case "raise" | "again" if self.attempt < MAX_ATTEMPTS:
                delay_us = DELAY_US if word == "raise" else 5 * DELAY_US
                self.retry = self.attempt + 1, now_us + delay_us
            case "raise" | "again" | "give up":
                self._exhausted(now_us)
            case "clear":
                self._cleared()
            case _:
                self._ended(word, now_us)

    def _ended(self, word: str, now_us: int) -> None:
        self.failed = False
        if word == "count":
            self.state += 1
        if self.stopped:
            return
        if word == "stop":
            self._stopped()
            return
        self.paused = self.paused or word == "pause"
        if word == "move":
            self.due_us, self.from_start = now_us + 5 * MINUTE_US, False
        else:
            self._follow(now_us)

    def _exhausted(self, now_us: int) -> None:
        self.failed = self.on_exhausted == "fail"
        if self.on_exhausted == "clear":
            self._cleared()
        elif self.on_exhausted == "continue" and not self.stopped:
            self._follow(now_us)

    def _lost(self, now_us: int) -> bool:
        self.leased_until_us = None
        if self.attempt >= MAX_ATTEMPTS:
            self._exhausted(now_us)
        elif self._held:
            self.retry = self.attempt + 1, now_us
        else:
            self.attempt += 1
            self.leased_until_us = now_us + LEASE_US
        return self.running

    def _follow(self, now_us: int) -> None:
        if self.due_us is not None and (self.is_grid or self.from_start):
            return
        self._set_next(self.run_due_us, now_us)

    def _set_next(self, after_us: int, now_us: int) -> None:
        self.due_us = self._next(after_us) if self.is_grid else now_us + HOUR_US
        self.from_start = self.failed = False

    # -- inside

    @property
    def _held(self) -> bool:
        return self.running or self.paused or self.stopped

    def _new_run(self, due_us: int) -> None:
        self.runs, self.attempt, self.run_due_us = self.runs + 1, 1, due_us

    def _next(self, after_us: int) -> int:
        origin_us = 0 if self.by_cron or self.origin_us is None else self.origin_us
        return origin_us + ((after_us - origin_us) // HOUR_US + 1) * HOUR_US

    def _caught_up(self, due_us: int, now_us: int) -> int | None:
        """Which of the occurrences that were missed is run for; with `all` others follow it."""
        missed = [due_us]
        while self.is_grid and self._next(missed[-1]) <= now_us:
            missed.append(self._next(missed[-1]))
        if self.catch_up == "skip":
            return None
        return missed[-1] if self.catch_up == "once" else missed[-MAX_CATCH_UP:][0]

    def _stopped(self) -> None:
        self.stopped, self.paused = True, False
        self.due_us = self.asked_us = None
        self.from_start = False

    def _cleared(self) -> None:
        rule = self.is_grid, self.by_cron, self.on_exhausted, self.catch_up
        self.__init__(*rule)  # type: ignore[misc]
