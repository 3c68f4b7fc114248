"""A tiny reference: what a Task with scripted handlers must do, in plain Python, without a log.

Times are microseconds. A `Model` is one instance. Handlers follow scripts: lists of the words that
`play` knows. `Act.now` is what `on_event` does at once, `Act.later` what `execute` is to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel

__all__ = ["LEASE_US", "MAX_LOST", "WORDS", "Act", "Box", "Model", "after_error", "when_idle"]

SECOND = 1_000_000
LEASE_US = 30 * SECOND
MAX_LOST = 2
WORDS = ("add", "double", "unset", "soon", "later", "past", "cancel", "emit", "clear", "raise")
DELAYS_US = {"soon": 10 * SECOND, "later": 3600 * SECOND, "past": 0}

Script = tuple[str, ...]
How = Literal["ended", "raised", "cleared"]


class Act(BaseModel):
    """The event: a script for `on_event`, and perhaps a new one for `execute`."""

    now: Script = ()
    later: Script | None = None


class Box(BaseModel, frozen=True):
    """The state: a number, and what `execute` is to do."""

    n: int = 0
    later: Script = ()


def after_error(box: Box | None) -> Script:
    """What `on_error` does."""
    return ("raise",) if box is not None and box.n % 4 == 3 else ("add", "emit")


def when_idle(box: Box | None) -> Script:
    """What `on_idle` does."""
    return {1: ("later",), 2: ("emit", "raise")}.get(0 if box is None else box.n % 4, ("emit",))


@dataclass
class Draft:
    """What one handler asks for."""

    box: Box | None
    due_us: int | None
    emitted: int = 0

    def play(self, script: Sequence[str], now_us: int) -> How:
        for word in script:
            match word:
                case "add":
                    box = self.box or Box()
                    self.box = box.model_copy(update={"n": box.n + 1})
                case "double":
                    if self.box is not None:
                        self.box = self.box.model_copy(update={"n": 2 * self.box.n})
                case "unset":
                    self.box = None
                case "soon" | "later" | "past":
                    self.due_us = now_us + DELAYS_US[word]
                case "cancel":
                    self.due_us = None
                case "emit":
                    self.emitted += 1
                case "clear":
                    return "cleared"
                case _:
                    return "raised"
        return "ended"


@dataclass
class Model:
    """One instance, by the rules of Task."""

    caring: bool
    """Whether the definition has `on_error` and `on_idle`."""
    alive: bool = False
    box: Box | None = None
    due_us: int | None = None
    clear_us: int | None = None
    asked_us: int | None = None
    again: tuple[int, bool] | None = None
    """When a run that has failed or was lost is to go on, and whether somebody asked for that: it
    goes before the schedule."""
    paused: bool = False
    running: bool = False
    leased_until_us: int | None = None
    waiting: list[tuple[int, int, Act]] = field(default_factory=list)
    """Time, order of acceptance, event."""
    accepted: int = 0
    events: int = 0
    runs: int = 0
    losses: int = 0
    failures: int = 0
    failed: bool = False
    emitted: int = 0
    lives: int = 0

    # -- requests: each answers whether it wrote anything

    def send(self, act: Act, delay_us: int | None, now_us: int) -> bool:
        """Raises `ValueError` for a `send` that must fail; `accepted` grows unless it does."""
        was = self.copy()
        self._begin()
        self.events += 1
        self.accepted += 1
        if delay_us is not None or was.is_busy(now_us):
            self.waiting.append((now_us + (delay_us or 0), self.accepted, act))
            return True
        self.failed = False
        if not self._call(act, now_us):
            failures = self.failures
            self.__dict__.update(was.__dict__)
            if not was.alive:
                raise ValueError("nothing is written")
            self.failures = failures
            raise ValueError("the failure is written")
        return True

    def trigger(self, consume: bool, now_us: int) -> bool:
        """A run that has failed is started again, under its own number."""
        if not self.alive or self.running or self.paused:
            return False
        consumes = consume and self.due_us is not None
        self.due_us = None if consume else self.due_us
        if self.asked_us is not None:
            return consumes
        if not self.retry(now_us):
            self.asked_us = now_us
        return True

    def retry(self, now_us: int) -> bool:
        if not self.alive or self.running or self.paused or not (self.again or self.failed):
            return False
        self.again, self.failed = (now_us, True), False
        return True

    def pause(self) -> bool:
        was, self.paused = self.paused, self.alive
        return self.paused and not was

    def resume(self) -> bool:
        was, self.paused = self.paused, False
        return was

    def clear(self, after_us: int | None, now_us: int) -> bool:
        if not self.alive and (after_us is not None or not self.waiting):
            return False
        if after_us is not None:
            self.clear_us = now_us + after_us
            return True
        self._end()
        self.waiting = []
        self.running, self.leased_until_us = False, None
        return True

    def cancel_clear(self) -> bool:
        was, self.clear_us = self.clear_us, None
        return was is not None

    # -- alarms

    def wake(self) -> tuple[int, str] | None:
        """What is due next; the first of those that are due at the same time."""
        wakes: list[tuple[int, str]] = []
        if self.clear_us is not None:
            wakes.append((self.clear_us, "clear"))
        if not self.running and not self.paused:
            if self.waiting:
                wakes.append((min(at for at, _, _ in self.waiting), "waiting"))
            if self.again is not None:
                wakes.append((self.again[0], "again"))
            elif self.asked_us is not None:
                wakes.append((self.asked_us, "trigger"))
            if self.due_us is not None and self.again is None:
                wakes.append((self.due_us, "alarm"))
        return min(wakes, key=lambda wake: wake[0]) if wakes else None

    def claimable_us(self, now_us: int) -> int | None:
        """When a worker can take it: not before a lease that is held has ended."""
        wake, until_us = self.wake(), self.leased_until_us
        if until_us is None or until_us > now_us:
            return until_us if wake is None or until_us is not None else wake[0]
        return until_us if wake is None else min(wake[0], until_us)

    def claim(self, now_us: int) -> str | None:
        """A worker takes it; answers what is left to do: a `run`, or `waiting` events."""
        if self.running:
            return self._lost(now_us)
        wake = self.wake()
        self.leased_until_us = None
        if wake is None or wake[0] > now_us:
            return None
        if wake[1] == "clear":
            self.clear(None, now_us)
            return None
        self.leased_until_us = now_us + LEASE_US
        if wake[1] == "waiting":
            return "waiting"
        self._begin_run(wake[1])
        return "run"

    def _lost(self, now_us: int) -> str | None:
        """The lease of a run has ended: it runs again, or stays owed, or is given up."""
        self.losses += 1
        self.failed = self.losses >= MAX_LOST
        self.running = not (self.failed or self.paused)
        self.leased_until_us = now_us + LEASE_US if self.running else None
        if self.paused and not self.failed:
            self.again = now_us, False
        return "run" if self.running else None

    def _begin_run(self, why: str) -> None:
        is_asked_for = why == "trigger" or (self.again is not None and self.again[1])
        self.due_us = None if why == "alarm" else self.due_us
        self.asked_us = None if is_asked_for else self.asked_us
        self.losses = 0 if self.again is None or is_asked_for else self.losses
        self.runs += self.again is None
        self.running, self.failed, self.again = True, False, None

    def finish_run(self, now_us: int) -> None:
        script = self.box.later if self.box else ()
        self.running, self.leased_until_us, self.losses = False, None, 0
        self.failed = not self._handle(script, self.box, now_us)

    def handle_next(self, now_us: int) -> bool:
        """Handle the next event that waits; answers whether another one is ready."""
        was = self.copy()
        self._begin()
        _, order, act = min((w for w in self.waiting if w[0] <= now_us), key=lambda w: w[:2])
        left = [w for w in self.waiting if w[1] != order]
        self.waiting = left
        if self._call(act, now_us):
            self.failed = False
        else:
            failures = self.failures
            self.__dict__.update(was.__dict__)
            self.waiting, self.failures = left, failures
        wake = self.wake()  # an alarm that was due before the next event has its turn first
        has_more = wake is not None and wake[0] <= now_us and wake[1] == "waiting"
        self.leased_until_us = self.leased_until_us if has_more else None
        return has_more

    # -- inside

    def is_busy(self, now_us: int) -> bool:
        """Whether an event must wait."""
        return self.running or self.paused or any(at <= now_us for at, _, _ in self.waiting)

    def copy(self) -> Model:
        return replace(self, waiting=list(self.waiting))

    def _begin(self) -> None:
        if not self.alive:
            self._reset()
            self.alive, self.events = True, len(self.waiting)
            self.lives += 1

    def _end(self) -> None:
        self._reset()
        self.alive = False

    def _reset(self) -> None:
        self.box = self.due_us = self.clear_us = self.asked_us = None
        self.events = self.runs = self.failures = self.losses = 0
        self.again = None
        self.failed = self.paused = False

    def _call(self, act: Act, now_us: int) -> bool:
        box = self.box
        if act.later is not None:
            box = Box(n=box.n if box else 0, later=act.later)
        return self._handle(act.now, box, now_us)

    def _handle(self, script: Script, box: Box | None, now_us: int) -> bool:
        """Play a handler's script from `box`; answers whether it ended well or was recovered."""
        draft = Draft(box, self.due_us)
        how = draft.play(script, now_us)
        if how == "raised":
            self.failures += 1
            draft = Draft(self.box, self.due_us)
            if not self.caring:
                return False
            how = draft.play(after_error(self.box), now_us)
            if how == "raised":
                self.failures += 1
                return False
        self._keep(draft, how)
        if self.caring and self.alive and not self.waiting:
            self._idle(now_us)
        return True

    def _idle(self, now_us: int) -> None:
        if self.due_us is None and self.asked_us is None and self.again is None:
            draft = Draft(self.box, None)
            if draft.play(when_idle(self.box), now_us) == "raised":
                self.failures += 1
            else:
                self._keep(draft, "ended")

    def _keep(self, draft: Draft, how: How) -> None:
        self.emitted += draft.emitted
        if how == "cleared":
            self._end()
        else:
            self.box, self.due_us = draft.box, draft.due_us
