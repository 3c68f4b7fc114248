"""What must be true after a storm of outages, by what its processes printed and by the log."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from tests.acceptance.jobs_in_outages import NEW, RARE_EVERY_S
from tests.acceptance.jobs_under_kill import Chore, Done, now_us
from tests.acceptance.linearizable import Call, check_counter
from tests.acceptance.processes import Said
from tests.acceptance.recorded import check_alarms, check_runs, check_waiting
from tests.acceptance.troubles import Troubled
from tests.auditing import runs_of
from wakelog.core.events import (
    DeadLettered,
    EventReceived,
    Executed,
    ExecutionLost,
    Parked,
    Scheduled,
)
from wakelog.log.records import Recorded

__all__ = ["Figures", "Histories", "Seen", "check"]

Histories = Mapping[str, Sequence[Recorded]]
Which = tuple[str, int, int]
"""An attempt: its instance, its run, and which try of that it was."""


@dataclass
class Seen:
    """What was done, and what the processes printed. Instants are monotonic microseconds."""

    acts: Counter[str] = field(default_factory=Counter[str])
    diary: list[str] = field(default_factory=list[str])
    """What was done, and when; printed if something is not as it should be."""
    away_s: float = 0
    calls: list[Call] = field(default_factory=list[Call])
    notes: list[Said] = field(default_factory=list[Said])
    gone_us: dict[int, int] = field(default_factory=dict[int, int])
    """By which instant a worker was surely dead."""
    sleeps: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """Which worker was suspended, from when to when."""
    closes: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """Which process closed its app, from when to when."""
    troubled: Troubled = field(default_factory=Troubled)
    back_us: int = 0
    """When the store came back for the last time."""

    def note(self, what: str, pid: int | None = None, *, counts: bool = True) -> None:
        if counts:
            self.acts[what] += 1
        self.diary.append(f"{now_us()} {what}{f' ({pid})' if pid else ''}")


@dataclass
class Figures:
    """What a storm of outages came to."""

    seed: int
    seconds: float
    acts: Counter[str] = field(default_factory=Counter[str])
    troubles: Troubled = field(default_factory=Troubled)
    away_s: int = 0
    sends: int = 0
    acknowledged: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    unacknowledged_but_recorded: int = 0
    deferred: int = 0
    runs: int = 0
    lost_attempts: Counter[str] = field(default_factory=Counter[str])
    """By what had become of their workers; none was lost by one that was alive and awake."""
    overlaps_of_suspended: int = 0
    """Of user code: a worker was suspended for longer than its lease."""
    longest_overlap_s: float = 0
    """How long a worker that was suspended went on with a run that it had lost."""
    on_the_old_rule: int = 0
    """Recurring instances whose next run was where version 1 puts it, when all had version 2."""
    events: int = 0

    def __str__(self) -> str:
        return "\n".join(
            f"  {name.replace('_', ' ')}: {dict(value) if isinstance(value, Counter) else value}"
            for name, value in vars(self).items()
        )


class Span(NamedTuple):
    """When the user code of an attempt ran, and where."""

    begin_us: int
    end_us: int
    pid: int
    which: Which


def check(
    histories: Histories, states: Mapping[str, Done | None], seen: Seen, figures: Figures
) -> None:
    """Raise `AssertionError` for whatever is not as it was promised; count the rest."""
    for stream, history in histories.items():
        figures.events += len(history)
        dead = [r.event for r in history if isinstance(r.event, DeadLettered | Parked)]
        assert not dead, f"{stream}: {dead}"
        if stream in states:
            figures.runs += check_runs(stream, history)
            _check_chore(stream, history, states[stream], figures)
        else:
            figures.runs += _check_recurring(stream, history)
    rare = [
        history for stream, history in histories.items() if stream.startswith("continuous:rare")
    ]
    figures.on_the_old_rule = sum(map(_is_on_the_old_rule, rare))
    _check_sends({s: h for s, h in histories.items() if s in states}, seen, figures)
    spans = _spans(seen)
    _check_lost(histories, spans, seen, figures)
    _check_spans(histories, spans, seen, figures)


def _check_chore(
    stream: str, history: Sequence[Recorded], state: Done | None, figures: Figures
) -> None:
    """Each event was handled once, each alarm fired."""
    events = [recorded.event for recorded in history]
    received = [event for event in events if isinstance(event, EventReceived)]
    check_waiting(history)
    check_alarms(stream, events)
    executed = [event for event in events if isinstance(event, Executed)]
    assert state is not None
    assert (state.told, state.runs) == (len(received), len(executed)), stream
    figures.deferred += sum(event.deferred for event in received)


def _check_recurring(stream: str, history: Sequence[Recorded]) -> int:
    """Each run ended well once, but for the last, which may have been stopped. How many."""
    ends: defaultdict[int, list[str]] = defaultdict(list)
    for (_, run, _), [end] in runs_of(history).items():
        ends[run].append(type(end.event).__name__)
    for run, each in ends.items():
        assert set(each[:-1]) <= {"ExecutionLost"}, f"{stream}: run {run}: {each}"
        assert each[-1] == "Executed" or run == max(ends), f"{stream}: run {run}: {each}"
    return len(ends)


def _is_on_the_old_rule(history: Sequence[Recorded]) -> bool:
    """Whether what was scheduled last lies further away than the new rule puts it."""
    ends_us = [r.decided_us for r in history if isinstance(r.event, Executed)]
    scheduled = [r.event for r in history if isinstance(r.event, Scheduled)]
    due_us = [event.due_us for event in scheduled if event.action == "execute"]
    return due_us[-1] - ends_us[-1] > (RARE_EVERY_S[NEW] + 60) * 1_000_000


def _check_sends(histories: Histories, seen: Seen, figures: Figures) -> None:
    """What was acknowledged is recorded once, what was refused is not; the counters add up."""
    tickets = {stream: _tickets(history) for stream, history in histories.items()}
    recorded = Counter(ticket for each in tickets.values() for ticket in each)
    twice = {ticket: times for ticket, times in recorded.items() if times > 1}
    assert not twice, f"recorded more than once: {twice}"
    calls = {call.ticket: call for call in seen.calls if call.ticket}
    assert set(recorded) <= set(calls), "recorded, and never sent"
    figures.sends = len(calls)
    for call in seen.calls:
        figures.errors.update(call.errors)
    for ticket, call in calls.items():
        if call.answered_us is not None:
            figures.acknowledged += 1
            assert recorded[ticket] == 1, f"acknowledged, and not recorded: {call}"
        elif recorded[ticket]:
            figures.unacknowledged_but_recorded += 1
            assert "unknown" in call.errors, f"said not to be recorded, but is: {call}"
    last_us = {number: 0 for number in {ticket // 1_000_000 for ticket in calls}}
    for ticket, call in calls.items():
        if call.answered_us:
            number = ticket // 1_000_000
            last_us[number] = max(last_us[number], call.invoked_us)
    newest = sorted(last_us)[-2:]
    assert all(last_us[n] > seen.back_us for n in newest), "a client did not come back"
    for stream, accepted in tickets.items():
        check_counter([c for c in seen.calls if f"task:chore:{c.id}" == stream], accepted)


def _tickets(history: Sequence[Recorded]) -> list[int]:
    events = [recorded.event for recorded in history]
    payloads = [event.payload or "" for event in events if isinstance(event, EventReceived)]
    return [Chore.model_validate_json(payload).number for payload in payloads]


# -- runs ------------------------------------------------------------------------------------------


def _spans(seen: Seen) -> dict[Which, Span]:
    """Of each attempt that has begun. Fails if one ran in two places, or never ended."""
    left = {(n.id, n.run, n.attempt): n for n in seen.notes if n.what == "left"}
    spans: dict[Which, Span] = {}
    for note in seen.notes:
        if note.what == "run":
            which = note.id, note.run, note.attempt
            assert which not in spans, f"an attempt ran in two places: {which}"
            end_us = left[which].at_us if which in left else seen.gone_us[note.pid]
            spans[which] = Span(note.at_us, end_us, note.pid, which)
    return spans


def _check_lost(
    histories: Histories, spans: Mapping[Which, Span], seen: Seen, figures: Figures
) -> None:
    """No attempt was lost by a worker that was alive and awake then.

    The loss is recorded together with the next attempt, which prints when it begins.
    """
    for stream, history in histories.items():
        id = stream.split(":")[2]
        for (_, run, attempt), [end] in runs_of(history).items():
            lost = end.event
            if not isinstance(lost, ExecutionLost):
                continue
            which = id, run, attempt
            follower = spans.get((id, run, attempt + 1))
            lost_us = math.inf if follower is None else follower.begin_us
            begin_us = spans[which].begin_us if which in spans else 0
            pid = int(lost.worker.split(":")[-2])
            if lost.reason == "shutdown":
                how = "given back"
            elif seen.gone_us[pid] < lost_us:
                how = "dead"
            elif any(p == pid and f < lost_us and begin_us < t for p, f, t in seen.sleeps):
                how = "suspended"
            elif any(p == pid and f < lost_us and begin_us < t for p, f, t in seen.closes):
                how = "closed"
            else:
                about = f"{lost} at {end.at_us}, {spans.get(which)}, then {follower}"
                raise AssertionError(f"{stream}: lost by a living worker: {about}")
            figures.lost_attempts[how] += 1


def _check_spans(
    histories: Histories, spans: Mapping[Which, Span], seen: Seen, figures: Figures
) -> None:
    """No two attempts of an instance ran at once, but for one whose worker was suspended; and
    that one began no step after another attempt had begun."""
    attempts = {
        (stream.split(":")[2], run, attempt): isinstance(end.event, ExecutionLost)
        for stream, history in histories.items()
        for (_, run, attempt), [end] in runs_of(history).items()
    }
    assert set(spans) <= set(attempts), "an attempt ran that is not recorded"
    ended_well = {which for which, was_lost in attempts.items() if not was_lost}
    assert ended_well <= set(spans), "a run is recorded that no worker has begun"
    steps = {(n.id, n.run, n.attempt): n.at_us for n in seen.notes if n.what == "step"}
    by_instance: defaultdict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans.values()):
        by_instance[span.which[0]].append(span)
    for mine in by_instance.values():
        for before, after in combinations(mine, 2):
            if after.begin_us < before.end_us:
                _check_overlap(before, after, seen)
                assert attempts[before.which], f"{before} and {after} overlap; it was not lost"
                step_us = steps.get(before.which, 0)
                assert step_us < after.begin_us, f"{before} began a step after {after} had begun"
                figures.overlaps_of_suspended += 1
                figures.longest_overlap_s = max(
                    figures.longest_overlap_s, _seconds_awake(before, seen)
                )


def _check_overlap(before: Span, after: Span, seen: Seen) -> None:
    assert any(
        pid == before.pid and from_us < after.begin_us and before.begin_us < to_us
        for pid, from_us, to_us in seen.sleeps
    ), f"two attempts ran at once, and no worker was suspended: {before} and {after}"


def _seconds_awake(span: Span, seen: Seen) -> float:
    """From when its worker was resumed last to the end of the attempt."""
    awake_us = [to for pid, _, to in seen.sleeps if pid == span.pid and to < span.end_us]
    return round((span.end_us - max(awake_us, default=span.end_us)) / 1_000_000, 1)
