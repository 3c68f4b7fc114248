"""What must be true after a storm over pools: by the log, by clients and by handlers' own notes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from tests.acceptance.pools_in_storm import Asked, Noted, Parcel, Sort
from tests.acceptance.troubles import Troubled
from tests.auditing_pools import Fate, PoolAudit
from wakelog.core.events import DeadLettered, ExecutionFailed
from wakelog.core.pool.events import EventsReceived, RunsExecuted, RunsLost, RunsStarted
from wakelog.pools.items import place_of
from wakelog.ports.pools import ExceptionKey

__all__ = ["PoolReport", "Witnessed", "check"]

CONCURRENCY = {"loose": 6, "ordered": 4}
FINAL = ("ok", "given up")
"""How the last run of an event came out, as its handler noted it."""


@dataclass
class Witnessed:
    """What was seen from outside. Instants are monotonic microseconds, the same in all processes,
    but for `gone_at_us`, which is by the clock that the log tells."""

    asked: list[Asked] = field(default_factory=list[Asked])
    notes: list[Noted] = field(default_factory=list[Noted])
    gone_us: dict[int, int] = field(default_factory=dict[int, int])
    """By which instant a worker was surely dead."""
    gone_at_us: dict[int, int] = field(default_factory=dict[int, int])


@dataclass
class PoolReport:
    """The figures of a storm."""

    seed: int
    duration_s: float = 0
    calmed_s: float = 0
    """How long all took to come to rest."""
    kills: int = 0
    restarts: Counter[str] = field(default_factory=Counter[str])
    cuts: int = 0
    calls: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    """Tries of clients that failed, by the reason they were told."""
    accepted: int = 0
    unacknowledged_but_recorded: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    runs: int = 0
    """Calls of `execute`."""
    repeated: int = 0
    """Those that ended, and were not recorded before their worker was killed."""
    lost: int = 0
    """Taken events whose worker was lost."""
    lost_by_living: int = 0
    returned: int = 0
    overlaps: int = 0
    """Runs of one key at once: a worker that lived had lost its lease."""
    troubles: Troubled = field(default_factory=Troubled)

    def __str__(self) -> str:
        return "\n".join(
            f"  {name.replace('_', ' ')}: {dict(value) if isinstance(value, Counter) else value}"
            for name, value in vars(self).items()
        )


class _Item(NamedTuple):
    """An accepted event, and what the log says became of it."""

    number: int
    sort: Sort
    key: str | None
    place: ExceptionKey
    fate: Fate


def check(audits: Mapping[str, PoolAudit], seen: Witnessed, report: PoolReport) -> None:
    """Fills the report; raises `AssertionError` for what is not as it should be."""
    for pool, audit in audits.items():
        items = _items(audit)
        asked = [each for each in seen.asked if each.pool == pool]
        notes = [each for each in seen.notes if each.pool == pool]
        _count(audit, items, notes, seen, report)
        _check_asked(asked, items, report)
        _check_ends(items)
        _check_notes(audit, items, notes, report)
        _check_spans(pool, items, notes, seen, report)
        if pool == "ordered":
            _check_order_noted(items, notes)
            _check_order_recorded(audit, items)


def _items(audit: PoolAudit) -> dict[int, _Item]:
    """By number, in the order of acceptance within each lane; each was accepted once."""
    items: dict[int, _Item] = {}
    for stream, history in audit.events.items():
        for event in [recorded.event for recorded in history]:
            if not isinstance(event, EventsReceived):
                continue
            assert stream.endswith(":shared"), stream
            places = [(lane, first + k) for lane, first, n, *_ in event.lanes for k in range(n)]
            for place, line in zip(places, event.lines.split(b"\n"), strict=True):
                fields: list[Any] = [*json.loads(line), None]
                payload, key = fields[1], fields[2]
                parcel = Parcel.model_validate(payload)
                where = ExceptionKey(*place)
                assert parcel.number not in items, f"{parcel.number} was accepted twice"
                fate = audit.fates[where]
                items[parcel.number] = _Item(parcel.number, parcel.sort, key, where, fate)
    return items


def _count(
    audit: PoolAudit,
    items: Mapping[int, _Item],
    notes: Sequence[Noted],
    seen: Witnessed,
    report: PoolReport,
) -> None:
    report.accepted += len(items)
    report.ends += Counter(str(end) for end in audit.ends().elements())
    report.runs += sum(noted.what == "run" for noted in notes)
    report.returned += sum(item.fate.returned for item in items.values())
    for history in audit.events.values():
        takers = {r.version: r.event.worker for r in history if isinstance(r.event, RunsStarted)}
        for recorded in history:
            if isinstance(recorded.event, RunsLost):
                count, pid = len(recorded.event.items), _pid(takers[recorded.event.run])
                report.lost += count
                if recorded.at_us < seen.gone_at_us.get(pid, recorded.at_us + 1):
                    report.lost_by_living += count


def _pid(worker: str) -> int:
    return int(worker.split(":")[-2])


def _check_asked(asked: Sequence[Asked], items: Mapping[int, _Item], report: PoolReport) -> None:
    """What was acknowledged is recorded, what was refused is not, and each call is all or none."""
    numbers = Counter(n for each in asked if each.what == "enqueue" for n in each.numbers)
    assert items.keys() <= numbers.keys(), "nobody has put that into the pool"
    cancelled: set[int] = set()
    for each in asked:
        report.calls += 1
        report.errors.update(each.errors)
        if each.what == "cancel":
            assert each.answer != "not_found", f"it was accepted: {each}"
            if each.answer == "cancelled":
                assert items[each.numbers[0]].fate.cancelled == 1, f"{each}"
            if each.answer == "cancelled" or "unknown" in each.errors:
                cancelled.update(each.numbers)
            continue
        recorded = {number in items for number in each.numbers}
        assert len(recorded) == 1, f"only some of a call were accepted: {each}"
        if each.answered_us is not None:
            assert recorded == {True}, f"acknowledged, and not recorded: {each}"
        elif recorded == {True}:
            report.unacknowledged_but_recorded += len(each.numbers)
            assert "unknown" in each.errors, f"said not to be recorded, but is: {each}"
    for item in items.values():
        assert not item.fate.cancelled or item.number in cancelled, f"who cancelled {item}?"


def _check_ends(items: Mapping[int, _Item]) -> None:
    """Each has the one end that it should have."""
    for item in items.values():
        right = "dead" if item.sort == "bad" else "completed"
        assert item.fate.end == ("cancelled" if item.fate.cancelled else right), f"{item}"


def _check_notes(
    audit: PoolAudit, items: Mapping[int, _Item], notes: Sequence[Noted], report: PoolReport
) -> None:
    """Handlers ran as often as the log says: repeats only of what was taken, and lost."""
    failed: Counter[ExceptionKey] = Counter()
    attempts: set[tuple[str | None, int | None]] = set()
    for history in audit.events.values():
        for event in [recorded.event for recorded in history]:
            if isinstance(event, ExecutionFailed):
                place = place_of(event.item or "")
                assert place is not None, event
                failed[ExceptionKey(*place)] += 1
                assert (event.item, event.attempt) not in attempts, f"recorded twice: {event}"
                attempts.add((event.item, event.attempt))
    noted: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for note in notes:
        noted[note.number][note.what] += 1
    oks = {(n.number, f"{n.attempt} {n.pid}") for n in notes if n.what == "ok"}
    assert noted.keys() <= items.keys(), "it ran, and is not recorded"
    for number, item in items.items():
        fate, mine = item.fate, noted[number]
        failures = mine["failed"] + mine["given up"]
        about = f"{item}: {mine}, {failed[item.place]} failures recorded"
        report.repeated += mine["ok"] - fate.completed + failures - failed[item.place]
        assert mine["run"] <= fate.started - fate.returned, f"not taken so often: {about}"
        assert fate.completed <= mine["ok"] <= fate.completed + fate.lost, about
        assert failed[item.place] <= failures <= failed[item.place] + fate.lost, about
        ended = fate.completed + failed[item.place] + fate.lost + fate.returned
        assert fate.started >= ended, f"an end without a take: {about}"
        if not fate.returned:  # that it came back behind another one is recorded once
            assert fate.started - ended <= fate.cancelled, f"a take without an end: {about}"
        assert (mine["dead"] > 0) == (fate.dead > 0), about
        assert mine["dead"] <= 1 + fate.lost, about
        for result in fate.results:
            assert (number, str(result)) in oks, f"no such run: {result}, {about}"


def _check_spans(
    pool: str,
    items: Mapping[int, _Item],
    notes: Sequence[Noted],
    seen: Witnessed,
    report: PoolReport,
) -> None:
    """No two runs of one key at once, and no more runs at once than the pool has partitions:
    except for one whose worker, alive, had lost its lease."""
    spans = _spans(notes, seen)
    latest: dict[str, tuple[int, int]] = {}
    for began_us, ended_us, number in spans:
        key = items[number].key
        if key is not None:
            until_us, before = latest.get(key, (0, 0))
            if began_us < until_us:
                report.overlaps += 1
                assert items[before].fate.lost, f"{number} began while {before} ran, of {key}"
            latest[key] = max(latest.get(key, (0, 0)), (ended_us, number))
    whole = [span for span in spans if not items[span[2]].fate.lost]
    turns = sorted([(b, 1) for b, _, _ in whole] + [(e, -1) for _, e, _ in whole])
    at_once = 0
    for _, change in turns:
        at_once += change
        assert at_once <= CONCURRENCY[pool], f"{at_once} at once in {pool}"


def _spans(notes: Sequence[Noted], seen: Witnessed) -> list[tuple[int, int, int]]:
    """From when to when a handler ran, for which event; in order of the beginnings."""
    spans: list[tuple[int, int, int]] = []
    running: dict[tuple[int, int], int] = {}
    for note in notes:
        which = note.pid, note.number
        if note.what == "run":
            assert which not in running, f"it runs twice in one process: {note}"
            running[which] = note.at_us
        elif note.what != "dead":
            spans.append((running.pop(which), note.at_us, note.number))
    for (pid, number), began_us in running.items():
        spans.append((began_us, seen.gone_us[pid], number))
    return sorted(spans)


def _of_keys(items: Iterable[_Item]) -> dict[str, list[_Item]]:
    """The items of each key, in the order of acceptance."""
    found: defaultdict[str, list[_Item]] = defaultdict(list)
    for item in items:
        if item.key is not None:
            found[item.key].append(item)
    for key, mine in found.items():
        places = [item.place for item in mine]  # an empty lane is forgotten: the next one is new
        assert places == sorted(places), f"{key} is in two lanes at once"
    return found


def _check_order_recorded(audit: PoolAudit, items: Mapping[int, _Item]) -> None:
    """The events of a key have ended in their order, commit by commit: what one take came to is
    recorded at once, and its order is that of the notes."""
    ended: dict[ExceptionKey, tuple[str, int]] = {}
    for stream, history in audit.events.items():
        if stream.endswith(":shared"):
            continue
        commits: dict[str, int] = {}
        for recorded in history:
            event, commit = recorded.event, commits.setdefault(recorded.commit, len(commits))
            if isinstance(event, RunsExecuted):
                for line in event.lines.split(b"\n") if event.lines else ():
                    lane, off, *_ = json.loads(line)
                    ended[ExceptionKey(lane, off)] = stream, commit
            elif isinstance(event, DeadLettered):
                place = place_of(event.item or "")
                assert place is not None
                ended[ExceptionKey(*place)] = stream, commit
    for key, mine in _of_keys(items.values()).items():
        mine_ended = [item for item in mine if not item.fate.cancelled]
        order = [ended[item.place] for item in mine_ended]
        assert len({stream for stream, _ in order}) <= 1, f"{key} was in two partitions"
        for (before, after), (one, two) in zip(pairwise(order), pairwise(mine_ended), strict=True):
            assert before <= after, f"{key} ended out of order: {one} after {two}"


def _check_order_noted(items: Mapping[int, _Item], notes: Sequence[Noted]) -> None:
    """When an event of a key begins, all before it have come to their ends, by their last notes."""
    open_: dict[str, set[ExceptionKey]] = {}
    for key, mine in _of_keys(items.values()).items():
        open_[key] = {item.place for item in mine if not item.fate.cancelled}
    for note in notes:
        item = items[note.number]
        if item.key is None or item.fate.cancelled or note.what == "dead":
            continue
        waiting = open_[item.key]
        if note.what == "run":
            before = [place for place in waiting if place < item.place]
            assert not before, f"too early: {note}, {item}, {before}"
        if note.what in FINAL:
            waiting.discard(item.place)
        else:
            waiting.add(item.place)
