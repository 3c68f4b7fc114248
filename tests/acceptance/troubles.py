"""Troubles of a storm, beside kills: apps are closed and opened again while their store is away or
silent, a server takes bytes and answers nothing, and processes can start no threads.

They are told to processes of `reopening`; what these answer is held against what is promised.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.acceptance.jobs_under_kill import now_us
from tests.acceptance.processes import Child
from tests.adapters.postgres.network_cuts import Silent, Wire
from tests.support_postgres import bare_connection
from wakelog.closing import END_S

__all__ = ["GRACE_S", "OF_A_FILE", "OF_A_SERVER", "Pace", "Troubled", "Troubles"]

GRACE_S = 0.3
"""How long runs and requests may take to end when an app is closed, unless a storm has another
one."""
SLOW_S = 1.0
"""How much longer than is promised a close may take on a machine that has much to do."""
FEWER_THREADS = 7
"""Fewer than any app needs."""
CLOSES = 0.5
"""In how many of them an app is closed, and how many of these last until it is: the first in any
case."""
BOTH: tuple[Silent, ...] = ("requests", "answers")
TRY_S = 10.0
"""How long a call may take that does not wait for a server: its own waits for an answer, for a
connection, and for what became of an append, behind those of another append."""

SESSIONS = b"SELECT usename, count(*) FROM pg_stat_activity WHERE usename = ANY(%s) GROUP BY 1"

OF_A_FILE = ("closed away", "closed without threads", "threads refused")
"""What each storm must have had."""
OF_A_SERVER = (
    *OF_A_FILE,
    "closed silent",
    "calls ended in a silence",
    "sessions of jobs_client",
    "sessions of jobs_worker",
)


Why = Literal["away", "silent", "without threads"]
"""What was the matter when an app was to be closed."""


class Pace(NamedTuple):
    """How long something lasts, at least and at most."""

    answers_s: tuple[float, float] = (1.5, 4.5)
    silent_s: tuple[float, float] = (0.5, 3.5)
    """Of the server, if no close is waited for. The first time it is silent for as long as it can
    be: for longer than a call of the impatient client waits."""
    starts_s: tuple[float, float] = (1.0, 3.0)
    """All processes can start threads."""
    starves_s: tuple[float, float] = (0.2, 1.0)
    """One cannot; or longer, until it was refused one."""


PACE = Pace()


@dataclass
class Troubled:
    """The figures of them."""

    counts: Counter[str] = field(default_factory=Counter[str])
    longest_close_s: float = 0
    longest_try_s: float = 0
    """How long a call took at most that failed, without the time that the store was away."""


@dataclass
class _Close:
    """An app that is to be closed."""

    why: Why
    from_us: int
    is_waited_for: bool
    """Whether that lasts until the app is closed."""
    is_outlasted: bool = False
    """Whether that was over before."""


class Troubles:
    """Begins and ends them, and counts them."""

    def __init__(
        self,
        rng: random.Random,
        wire: Wire | None,
        *,
        timeout_s: float,
        grace_s: float = GRACE_S,
        pace: Pace = PACE,
        try_s: float = TRY_S,
        waits: Collection[str] = ("away", "silent"),
    ) -> None:
        """`timeout_s`: when calls of the store end; one may go on when all else is closed. `try_s`:
        how long a call of the impatient client takes. `waits`: what may last until an app is
        closed."""
        self._rng = rng
        self._pace = pace
        self._try_s = try_s
        self._close_s = grace_s + END_S + timeout_s + SLOW_S
        self._wire = wire
        self._ready: set[int] = set()
        self._closing: dict[int, _Close] = {}
        """By the processes that were told to close their apps."""
        self._starved: Child | None = None
        """The process that can start no threads."""
        self._awaits_refusal = False
        """It was told to close its app too, and is to be refused a thread when it opens it."""
        self._waits = waits
        self._is_ending = False
        self._silences = _Spans()
        self._aways = _Spans()
        self._silence_turn_s = self._threads_turn_s = math.inf
        self.on_wire: set[int] = set()
        """The processes that reach the server through the wire."""
        self.impatient: Child | None = None
        """The client on the wire whose calls end soon; it calls while the server is silent."""
        self.closes: list[tuple[int, int, int]] = []
        """Which process closed its app, from when to when."""
        self.report = Troubled()

    # -- closing

    @property
    def are_over(self) -> bool:
        """Whether the server answers, all apps are closed that were told to, and all processes can
        start threads."""
        return not self._is_silent and not self._closing and self._starved is None

    @property
    def closing(self) -> set[int]:
        """The processes that close their apps."""
        return set(self._closing)

    @property
    def _is_silent(self) -> bool:
        return self._wire is not None and self._wire.silent is not None

    def _close_one(self, clients: Sequence[Child], workers: Sequence[Child], why: Why) -> None:
        """Have one that is open close its app, and open it again; or none. The first is a client if
        that can be: a worker tries for longer to record what it has begun."""
        is_first = not self.report.counts[f"closed {why}"]
        child = (is_first and self._one_of(clients)) or self._one_of([*clients, *workers])
        if child is not None and self._draws(why):
            self._close(child, why, is_waited_for=why in self._waits and self._draws(why))

    def _can_close(self, why: Why, children: Sequence[Child]) -> bool:
        """Whether there is one of these for the first close."""
        return bool(self.report.counts[f"closed {why}"]) or self._one_of(children) is not None

    def _lasts(self, why: Why) -> bool:
        """Whether this has to last until an app is closed."""
        return any(each.why == why and each.is_waited_for for each in self._closing.values())

    def forget(self, child: Child) -> None:
        """It ends: nothing is awaited of it."""
        self._ready.discard(child.pid)
        self._closing.pop(child.pid, None)
        if child is self._starved:
            self._starve_no_more()

    def _draws(self, why: Why) -> bool:
        return not self.report.counts[f"closed {why}"] or self._rng.random() < CLOSES

    def _one_of(self, children: Iterable[Child]) -> Child | None:
        able = [child for child in children if self._is_able(child)]
        if self._is_silent and self.impatient in able:
            able.remove(self.impatient)
        return self._rng.choice(able) if able else None

    def _is_able(self, child: Child | None) -> bool:
        """Whether its app is open and nothing is the matter with it."""
        return child is not None and child.pid in self._ready and self.may_kill(child)

    def may_kill(self, child: Child) -> bool:
        """Whether nothing is awaited of it."""
        return child.pid not in self._closing and child is not self._starved

    def _close(self, child: Child, why: Why, *, is_waited_for: bool) -> None:
        child.tell("close")
        self._ready.discard(child.pid)
        self._closing[child.pid] = _Close(why, now_us(), is_waited_for)

    def has_heard(self, child: Child, line: str) -> bool:
        """Whether a line is about this. Fails if it is not as it should be."""
        what, _, words = line.partition(" ")
        if what == "ready":
            self._ready.add(child.pid)
        elif what == "closed" and child.pid in self._closing:
            self._closed(child, *words.split(" ", 2)[1:])
        elif what == "refused" and child is self._starved:
            self._awaits_refusal = False
        elif what == "allowed" and child is self._starved:
            self.report.counts["threads refused"] += int(words.split()[1])
            self._starve_no_more()
        return what in ("ready", "closed", "refused", "allowed")

    def _closed(self, child: Child, took_us: str, left: str) -> None:
        close, took_s = self._closing.pop(child.pid), int(took_us) / 1_000_000
        why = f"closed {close.why}{', in part' if close.is_outlasted else ''}"
        self.report.counts[why] += 1
        self.closes.append((child.pid, close.from_us, now_us()))
        self.report.longest_close_s = max(self.report.longest_close_s, round(took_s, 1))
        assert left == "nothing", f"{why}: process {child.pid} has {left} left"
        assert took_s < self._close_s, f"{why}: that took {took_s} s"

    # -- turns

    def begin(self) -> None:
        """From now on there are turns."""
        self._silence_turn_s = time.monotonic() + self._rng.uniform(*self._pace.answers_s)
        self._threads_turn_s = time.monotonic() + self._rng.uniform(*self._pace.starts_s)

    def turn(self, clients: Sequence[Child], workers: Sequence[Child]) -> None:
        """Begin or end what it is time for; it begins with some of these."""
        now_s = time.monotonic()
        if self._wire is not None and now_s >= self._silence_turn_s:
            self._turn_silence(self._wire, clients, workers)
        if now_s >= self._threads_turn_s:
            self._turn_threads([*clients, *workers])

    def end(self) -> None:
        """Begin no more, and end each as soon as it can; its turns go on until they `are_over`."""
        self._is_ending = True
        self._silence_turn_s = 0
        if self._threads_turn_s < math.inf:
            self._threads_turn_s = 0

    def _turn_silence(self, wire: Wire, clients: Sequence[Child], workers: Sequence[Child]) -> None:
        if wire.silent is None:
            clients, workers = self._on_wire(clients), self._on_wire(workers)
            others = [each for each in [*clients, *workers] if each is not self.impatient]
            is_able = self._is_able(self.impatient) and self._can_close("silent", others)
            if is_able and not self._is_ending:
                wire.silent = self._rng.choice(BOTH)
                self._silences.begin()
                self._close_one(clients, workers, "silent")
                shortest_s, longest_s = self._pace.silent_s
                lasts_s = self._rng.uniform(shortest_s, longest_s)
                is_first = not self.report.counts["silences"]
                self._silence_turn_s = time.monotonic() + (longest_s if is_first else lasts_s)
        elif not self._lasts("silent"):
            wire.silent = None
            self._silences.end()
            self._outlast("silent")
            self.report.counts["silences"] += 1
            self._silence_turn_s = time.monotonic() + self._rng.uniform(*self._pace.answers_s)

    def _on_wire(self, children: Sequence[Child]) -> list[Child]:
        return [each for each in children if each.pid in self.on_wire]

    def _turn_threads(self, children: Sequence[Child]) -> None:
        if self._starved is None:
            child = None if self._is_ending else self._one_of(children)
            if child is not None:
                self._starve(child)
        elif not self._awaits_refusal:
            self._starved.tell("allow")
            self._threads_turn_s = math.inf  # until it says that it does

    def _starve(self, child: Child) -> None:
        self._starved = child
        child.tell(f"refuse {self._rng.randrange(FEWER_THREADS)}")
        self._awaits_refusal = self._draws("without threads")
        if self._awaits_refusal:
            self._close(child, "without threads", is_waited_for=True)
        self._threads_turn_s = time.monotonic() + self._rng.uniform(*self._pace.starves_s)

    def _starve_no_more(self) -> None:
        self._starved, self._awaits_refusal = None, False
        self._threads_turn_s = time.monotonic() + self._rng.uniform(*self._pace.starts_s)

    # -- the server

    def may_go(self, clients: Sequence[Child], workers: Sequence[Child]) -> bool:
        """Whether it may go away now."""
        return self._can_close("away", [*clients, *workers])

    def may_return(self) -> bool:
        """Whether it may come back now."""
        return not self._lasts("away")

    def away(self, clients: Sequence[Child], workers: Sequence[Child]) -> None:
        """It goes away: meanwhile, one of these may close its app."""
        self._aways.begin()
        self._close_one(clients, workers, "away")

    def back(self) -> None:
        self._aways.end()
        self._outlast("away")

    def _outlast(self, why: Why) -> None:
        """This is over, and apps that were told to close then are not closed."""
        for each in self._closing.values():
            each.is_outlasted |= each.why == why

    def has_sessions(self, url: str) -> bool:
        """Whether there are sessions of workers and of clients now. Counts them."""
        roles = ["jobs_worker", "jobs_client"]
        with bare_connection(url) as server:
            found = dict(server.execute(SESSIONS, (roles,)).fetchall())
        for role, count in found.items():
            self.report.counts[f"sessions of {role}"] = count
        return len(found) == len(roles)

    def check_tries(self, tries: Iterable[tuple[int, int]]) -> None:
        """The tries of calls that failed have ended soon, but for the time that the server was
        away: an append of which it has to tell what became of it is looked up until it does."""
        for began_us, ended_us in tries:
            took_s = (ended_us - began_us - self._aways.within(began_us, ended_us)) / 1_000_000
            self.report.longest_try_s = max(self.report.longest_try_s, round(took_s, 1))
            assert took_s < self._try_s, f"a call has failed after {took_s} s, at {ended_us}"
            self.report.counts["calls ended in a silence"] += bool(
                self._silences.within(began_us, ended_us)
            )


class _Spans:
    """Spans of time, in monotonic microseconds."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        self._from_us: int | None = None

    def begin(self) -> None:
        self._from_us = now_us()

    def end(self) -> None:
        if self._from_us is not None:
            self._spans.append((self._from_us, now_us()))
            self._from_us = None

    def within(self, from_us: int, to_us: int) -> int:
        """How much of them lies between two instants."""
        return sum(max(0, min(to_us, to) - max(from_us, since)) for since, to in self._spans)
