"""The book of a take: what its items' decisions come to in the partition's stream (P5, P6).

What `decide` answers for an item is the same as for any job. Most of it is one `Executed`: those
are put together, a line each. Everything else is recorded as it is, naming its item.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from wakelog.core.events import (
    DeadLettered,
    Event,
    Executed,
    ExecutionLost,
    Paused,
    RetryScheduled,
    Returned,
)
from wakelog.core.pool.events import GivenBack, RunsExecuted, RunsLost, RunsReturned
from wakelog.core.retry import Advice, Over, Retry, judge
from wakelog.log.batches import digest_of, root_of
from wakelog.log.payloads import Salts
from wakelog.pools.items import TakenItem
from wakelog.pools.settle import Outcome
from wakelog.pools.state import Detail, Take, bounded
from wakelog.ports.pools import ExceptionKey

__all__ = ["BEHIND_US", "Book", "detail_of_dead"]

BEHIND_US = 30_000_000
"""How soon an item that waits behind another one of its key is looked at, at the latest: what holds
it back releases it. Twice as long each time."""
MAX_DOUBLED = 10
"""How often that is doubled: to 8.5 hours."""

_AT_ONCE = Advice(after_us=0)
"""After a loss the next attempt is due at once, whatever delay the policy has."""


class Book:
    """Collects the outcomes of the items of one take."""

    def __init__(self, take: Take, salts: Salts, *, is_ordered: bool) -> None:
        self._take = take
        self._salts = salts
        self._is_ordered = is_ordered
        self._lines: list[bytes] = []
        self._singles: list[Event] = []
        self._returned: dict[GivenBack, list[TakenItem]] = {}
        self._outcome = Outcome()
        self.blocked: set[str] = set()
        """Keys of which an item waits for its next attempt."""
        self.outside: dict[str, int] = {}
        """Keys of which items wait elsewhere: the first one's number in the order of acceptance."""

    def holds_back(self, item: TakenItem) -> bool:
        """Whether an item must not begin, since another one of its key is to go before it (P5)."""
        key = item.key
        return key is not None and (
            key in self.blocked or self.outside.get(key, item.seq) < item.seq
        )

    @property
    def settled(self) -> int:
        """How many items are settled with this."""
        return self._outcome.settled

    @property
    def has_paused(self) -> bool:
        """Whether a handler has paused the pool."""
        return self._outcome.paused is not None

    @property
    def events(self) -> Sequence[Event]:
        """What of it is recorded one by one."""
        return self._singles

    def ended(self, item: TakenItem, events: Sequence[Event], started_us: int) -> None:
        """A run of an item, which began then, was decided."""
        outcome = self._outcome
        outcome.settled += 1
        outcome.starts.append(started_us)
        first = events[0]
        if isinstance(first, Executed):
            self._executed(item, first)
            if len(events) == 1 and not self._is_ordered:
                return
            events = events[1:]
        for event in events:
            self._single(item, event)
        if self._is_ordered and item.key is not None:
            last = outcome.put[-1] if outcome.put else None
            if last is not None and last[:2] == (item.lane, item.off) and last.why != "dead":
                self.blocked.add(item.key)
            elif item.row is not None or item.key in self.blocked:
                outcome.unblock.append(item.key)

    def _executed(self, item: TakenItem, executed: Executed) -> None:
        began_us = executed.started_us - self._take.at_us
        line = f"[{item.lane},{item.off},{began_us},{executed.duration_us}"
        if executed.result is not None:
            line += f',"{self._salts.next()}",{executed.result}'
        self._lines.append(f"{line}]".encode())
        self._outcome.processed += 1

    def _single(self, item: TakenItem, event: Event) -> None:
        """An event about one item alone."""
        if not isinstance(event, Returned):
            self._singles.append(replace(event, item=item.name))
        self._follow(item, event)

    def _follow(self, item: TakenItem, event: Event) -> None:
        """What an event means for where the item is now."""
        put, before = self._outcome.put, item.detail
        match event:
            case RetryScheduled():
                detail = Detail(attempt=event.attempt, first_us=before.first_us or self._take.at_us)
                put.append(item.put("retrying", event.due_us, detail))
            case DeadLettered():
                put.append(item.put("dead", None, detail_of_dead(event, self._take.at_us)))
            case ExecutionLost():  # given back at a shutdown: that is no attempt of it
                put.append(item.put("returned", self._take.at_us, before))
            case Returned():
                self._unread(item, event)
            case Paused() if self._outcome.paused is None:
                self._outcome.paused = event
            case _:
                pass

    def _unread(self, item: TakenItem, event: Returned) -> None:
        """This code cannot read it: it waits for code that can, and is due for no other (K4)."""
        detail = Detail(
            attempt=item.detail.attempt,
            first_us=item.detail.first_us,
            losses=item.detail.losses,
            reason="unread",
            error_type=event.error_type,
            message=bounded(event.message) or "",
        )
        self._returned.setdefault("unread", []).append(item)
        self._outcome.put.append(item.put("unread", None, detail))

    def given_back(self, items: Sequence[TakenItem], why: GivenBack, now_us: int) -> None:
        """Items that did not begin: others may take them, unless an operator wants them."""
        for item in items:
            self._outcome.settled += 1
            self._outcome.unbegun.append(ExceptionKey(item.lane, item.off))
            self._returned.setdefault(why, []).append(item)
            if why == "cancelled" and self._is_ordered and item.key is not None:
                self._outcome.unblock.append(item.key)
            if why != "behind":
                self._outcome.put.append(item.put("returned", now_us, item.detail))
                continue
            looks = item.detail.looks
            due_us = now_us + (BEHIND_US << min(looks, MAX_DOUBLED))
            detail = replace(item.detail, looks=looks + 1)
            self._outcome.put.append(item.put("behind", due_us, detail))

    def lost(
        self,
        items: Sequence[TakenItem],
        worker: str,
        max_lost: int,
        now_us: int,
        retry: Retry | None = None,
    ) -> TakenItem | None:
        """The worker that had taken them is gone. One that was alone in its take was being worked
        on: that counts as an attempt of it, after which its policy may have no other; and
        `max_lost` in a row are its end (R6): then it is answered, as a dead letter."""
        places = tuple((item.lane, item.off) for item in items)
        self._singles.append(RunsLost(run=self._take.version, items=places, worker=worker))
        self._outcome.is_over = self._take.is_empty
        alone = len(items) == 1 and self._take.count == 1
        over: TakenItem | None = None
        for item in items:
            self._outcome.settled += 1
            self._outcome.starts.append(now_us)  # it may have begun until now
            before = item.detail
            first_us = before.first_us or self._take.at_us
            losses = before.losses + 1 if alone else before.losses
            verdict = judge(retry, _AT_ONCE, before.attempt, first_us, now_us, seed="")
            if not alone or (losses < max_lost and not isinstance(verdict, Over)):
                detail = Detail(before.attempt + alone, first_us, losses)
                self._outcome.put.append(item.put("lost", now_us, detail))
                continue
            dead = _lost_with(worker, before.attempt, item)
            self._singles.append(dead)
            self._outcome.put.append(item.put("dead", None, detail_of_dead(dead, now_us)))
            if self._is_ordered and item.key is not None:
                self._outcome.unblock.append(item.key)
            over = item
        return over

    def told(self, item: TakenItem, events: Sequence[Event]) -> None:
        """`on_dead_letter` was called with one that was lost, with these outcomes."""
        for event in events:
            self._single(item, event)

    def emptied(self, events: Sequence[Event]) -> None:
        """`on_empty` was called, with these outcomes."""
        self._singles += events
        paused = (event for event in events if isinstance(event, Paused))
        self._outcome.paused = next(paused, None)
        self._outcome.is_emptied = self._outcome.is_over = True

    def outcome(self) -> Outcome:
        """All of it, for the next call."""
        outcome, run = self._outcome, self._take.version
        if self._lines or outcome.is_emptied:
            root = root_of(map(digest_of, self._lines))
            lines = b"\n".join(self._lines)
            outcome.events.append(
                RunsExecuted(run=run, count=len(self._lines), root=root, lines=lines)
            )
        outcome.events += self._singles
        for why, items in self._returned.items():
            places = tuple((item.lane, item.off) for item in items)
            outcome.events.append(RunsReturned(run=run, items=places, reason=why))
        return outcome


def _lost_with(worker: str, attempts: int, item: TakenItem) -> DeadLettered:
    return DeadLettered(
        event_version=1,
        reason="lost",
        error_type="ExecutionLost",
        message=f"worker {worker} was lost" if worker else "its worker was lost",
        attempts=attempts,
        item=item.name,
    )


def detail_of_dead(dead: DeadLettered, at_us: int) -> Detail:
    """What is kept of a dead letter beside the log."""
    return Detail(
        attempt=dead.attempts,
        reason=dead.reason,
        error_type=dead.error_type,
        message=bounded(dead.message) or "",
        at_us=at_us,
    )
