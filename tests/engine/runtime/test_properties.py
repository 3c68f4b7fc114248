"""What holds for any events, payloads, ids, durations and sequences of calls, tried on many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import JsonValue

from tests.auditing import audit, audit_all, fold_from_the_log
from tests.engine.kinds.reference import WORDS, Act
from tests.engine.kinds.test_task_model import make_jobs
from wakelog import InvalidIdError, Jobs, Task, TaskContext, ValidationError
from wakelog.app import App
from wakelog.application import Application
from wakelog.core.events import EVENTS, Event
from wakelog.core.instance import Instance
from wakelog.core.pool.events import Batch
from wakelog.core.time import MAX_US, as_datetime, duration_us, moment_us, when_us
from wakelog.errors import ExecutionError, UnreadableEventError
from wakelog.ids import InstanceId
from wakelog.jobs import open_store
from wakelog.log.payloads import Salts
from wakelog.log.rebuild import Head, refold, replayed, snapshot
from wakelog.log.records import Meta, decode, encode
from wakelog.ports.records import Loaded, StoredEvent
from wakelog.settings import Settings
from wakelog.testing import Simulation
from wakelog.worker.claims import claim_due
from wakelog.worker.runs import work

quick = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
STREAM = "task:order:o-17"
SALTS = Salts(random.Random(7))

# what is about many items has a root that its lines must fit: see tests/engine/log/test_batches.py
kinds = [each for each in EVENTS.values() if not issubclass(each, Batch)]
events = st.sampled_from(kinds).flatmap(st.builds)
metas = st.builds(
    Meta,
    at_us=st.integers(0, MAX_US),
    commit=st.text("0123456789abcdef", min_size=17, max_size=20),
    cause=st.none() | st.text(),
    correlation=st.none() | st.text(),
    actor=st.none() | st.text(),
    trace=st.none() | st.text(),
)
units = st.lists(st.tuples(st.lists(events, min_size=1, max_size=4), metas), max_size=6)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ids = st.text(min_size=1, max_size=255) | st.text(
    ":%'\"\\ \u00e9e\u0301\u2028\U0001f600", min_size=1
)


def encoded(written: Sequence[tuple[list[Event], Meta]]) -> list[StoredEvent]:
    """A stream of these units."""
    records: list[StoredEvent] = []
    prev = ""
    for said, meta in written:
        more, prev = encode(STREAM, len(records), prev, said, meta, SALTS)
        records += more
    return records


# -- the log


@quick
@given(units)
def test_what_is_written_is_read_back_and_chained(written: list[tuple[list[Event], Meta]]) -> None:
    records = encoded(written)
    read = [decode(record) for record in records]
    assert [r.event for r in read] == [event for said, _ in written for event in said]
    assert [r.version for r in read] == [*range(1, len(read) + 1)]
    assert [r.prev for r in read] == ["", *(r.hash for r in read)][: len(read)]
    metas = [meta for said, meta in written for _ in said]
    assert [(r.at_us, r.commit, r.cause, r.correlation, r.actor, r.trace) for r in read] == [
        (m.at_us, m.commit, m.cause, m.correlation, m.actor, m.trace) for m in metas
    ]


@quick
@given(st.lists(events, min_size=1, max_size=3), metas, st.data())
def test_any_changed_byte_is_noticed(said: list[Event], meta: Meta, data: st.DataObject) -> None:
    records, newest = encode(STREAM, 0, "", said, meta, SALTS)
    record = data.draw(st.sampled_from(records))
    at = data.draw(st.integers(0, len(record.state) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != record.state[at]))
    changed = replace(record, state=record.state[:at] + bytes([byte]) + record.state[at + 1 :])
    try:
        hash = decode(changed).hash
    except UnreadableEventError:
        return
    assert hash != decode(record).hash
    assert decode(records[-1]).hash == newest


@quick
@given(st.lists(events, min_size=2, max_size=4), metas, st.integers(0, 3))
def test_an_event_that_was_moved_or_left_out_is_noticed(
    said: list[Event], meta: Meta, out: int
) -> None:
    records, _ = encode(STREAM, 0, "", said, meta, SALTS)
    assume(out < len(records) - 1)
    hashes = {decode(record).hash for record in records}
    elsewhere = replace(records[out], stream="task:order:o-18")
    later = replace(records[out], version=len(records) + 1)
    assert decode(elsewhere).hash not in hashes
    assert decode(later).hash not in hashes
    rest = [record for record in records if record is not records[out]]
    closed_up = [replace(record, version=n) for n, record in enumerate(rest, 1)]
    with pytest.raises(Exception, match="broken"):
        refold(STREAM, Loaded(None, closed_up))


@quick
@given(units)
def test_every_snapshot_with_its_tail_is_the_full_fold(
    written: list[tuple[list[Event], Meta]],
) -> None:
    records = encoded(written)
    head = Head(Instance(InstanceId.parse(STREAM)), "")
    heads = [head, *(after for after, _ in replayed(head, records))]
    for each in heads:
        version = each.instance.version
        again = refold(STREAM, Loaded(snapshot(each), records[version:]))
        assert again == heads[-1]
        assert repr(again) == repr(heads[-1])  # 1 and True and 1.0 are equal


# -- sequences of calls

scripts = st.lists(st.sampled_from([w for w in WORDS if w != "past"]), max_size=3).map(tuple)
calls = st.lists(
    st.tuples(
        st.sampled_from(["plain", "caring"]),
        st.builds(Act, now=scripts, later=st.none() | scripts),
        st.sampled_from([None, 0, 5]),
        st.sampled_from([0, 5, 10, 3600]),
    ),
    max_size=25,
)


def lived(asked: Sequence[tuple[str, Act, int | None, int]], every: int, url: str) -> list[Head]:
    """Let two instances live through these calls; audited, and the same after a restart."""
    streams = ["task:plain:a", "task:caring:a"]
    with Simulation(
        make_jobs(lambda: None), url=url, settings=Settings(snapshot_every=every, cache=2)
    ) as sim:
        for name, act, delay_s, pause_s in asked:
            with contextlib.suppress(ExecutionError):
                sim.task(name).send("a", act, delay=delay_s)
            sim.advance(pause_s)
        application = sim.application
        live = {stream: application.instances.peek(stream) for stream in streams}
        sim.restart()
        heads = [fold_from_the_log(sim.application.store, stream) for stream in streams]
        for stream, head in zip(streams, heads, strict=True):
            history = audit(sim.application.store, stream)
            assert live[stream] in (None, head)
            assert sim.task(stream.split(":")[1]).status("a").version == len(history)
        return heads


@settings(quick, max_examples=40)
@given(calls)
def test_how_often_snapshots_are_taken_changes_nothing(
    asked: list[tuple[str, Act, int | None, int]],
) -> None:
    first, *others = [lived(asked, every, "memory://") for every in (1, 2, 3, 7, 100)]
    assert all(other == first for other in others)


@settings(quick, max_examples=15)
@given(calls, st.sampled_from([1, 2, 3, 7, 100]))
def test_both_stores_live_the_same_life(
    tmp_path_factory: pytest.TempPathFactory,
    asked: list[tuple[str, Act, int | None, int]],
    every: int,
) -> None:
    folder = tmp_path_factory.mktemp("life")
    assert lived(asked, every, f"sqlite:///{folder}/jobs.db") == lived(asked, every, "memory://")


@pytest.mark.parametrize("cycle", [1, 2, 3, 4])
def test_snapshots_are_taken_whatever_the_rhythm_of_the_events(store_url: str, cycle: int) -> None:
    """A unit that a claim appends may be the one that passes the mark, each time."""
    task: Task[int, str] = Task(state=int, event=str)

    @task.on_event
    def begin(ctx: TaskContext[int], event: str) -> None:
        ctx.schedule("1s")

    @task.execute
    def again(ctx: TaskContext[int]) -> None:
        for _ in range(cycle - 1):
            ctx.emit("said", 1)
        ctx.schedule("1s")

    with Simulation(Jobs(t=task), url=store_url, settings=Settings(snapshot_every=4)) as sim:
        sim.task(task).send("a", "begin")
        store = sim.application.store
        for _ in range(12):
            sim.advance("1s")
            assert len(store.load("task:t:a").tail) <= 4 + cycle
        assert store.load("task:t:a").snapshot is not None


# -- times


@dataclass
class JumpyClock:
    """A clock that shows the next of some times whenever it is asked; the last one for ever."""

    times: list[int]

    def now_us(self) -> int:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]

    def monotonic_us(self) -> int:
        return 0

    def wait(self, event: threading.Event, us: int) -> None:
        raise AssertionError("nobody waits here")


@quick
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_recorded_time_never_goes_back_even_if_the_clock_does(times: list[int]) -> None:
    clock = JumpyClock([1_767_225_600_000_000 + us for us in times])
    jobs = make_jobs(lambda: None)

    async def live() -> None:
        factory = open_store("memory://")
        application = Application(factory, jobs.registry, clock, Settings(), inline=True, seed=1)
        app = App(application, handlers=True)
        for number in range(8):
            await app.task("plain").send("a", Act(now=("add", "past"), later=("add",)))
            works_on = jobs.registry.jobs()
            now_us = clock.now_us()
            claimed, _ = claim_due(application, worker="w", jobs=works_on, limit=1, now_us=now_us)
            for each in claimed:
                await work(application, each)
            if number == 5:
                await app.task("plain").clear("a")
        history = audit(application.store, "task:plain:a")
        assert [r.at_us for r in history] == sorted(r.at_us for r in history)
        await app.close()

    asyncio.run(live())


@given(st.integers(0, MAX_US))
def test_durations_come_back(us: int) -> None:
    exact = timedelta(microseconds=us)
    assert duration_us(exact) == us
    seconds, rest = divmod(us, 1_000_000)
    assert duration_us(f"{seconds}s{rest}us") == us
    assert duration_us(f"PT{seconds}.{rest:06}S") == us
    assert duration_us(seconds) == us - rest
    days, left = divmod(seconds, 86_400)
    assert duration_us(f"{days}d {left // 3600}h {left // 60 % 60}m {left % 60}s") == us - rest
    assert duration_us(f"P{days}DT{left}S") == us - rest


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_moments_come_back(moment: datetime) -> None:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        with pytest.raises(ValidationError, match="outside"):
            moment_us(moment)
        return
    assert as_datetime(moment_us(moment)) == moment.astimezone(UTC)
    assert when_us(moment, 0) == moment_us(moment)


@given(
    st.text()
    | st.floats()
    | st.integers()
    | st.booleans()
    | st.none()
    | st.timedeltas()
    | st.datetimes()
    | st.from_regex(r"\A(P|T|[0-9.]+ *(us|ms|s|m|h|d|w|D|H|M|S|W))+\Z")
)
@example("9" * 400 + "s")
@example(10**400)
@example("1" * 5000)
@example("٣s")
def test_what_is_no_duration_raises_one_type_of_error(value: Any) -> None:
    us = 0
    with contextlib.suppress(ValidationError):
        us = duration_us(value)
    assert 0 <= us <= MAX_US


# -- values


def kept_task() -> Task[JsonValue, JsonValue]:
    """Keeps each event as the state, and emits it."""
    task: Task[JsonValue, JsonValue] = Task(state=JsonValue, event=JsonValue)

    @task.on_event
    def keep(ctx: TaskContext[JsonValue], event: JsonValue) -> None:
        if event is None:
            ctx.clear_state()
        else:
            ctx.set_state(event)
        ctx.emit("kept", event)

    return task


@settings(quick, max_examples=40)
@given(values=st.lists(json_values, min_size=1, max_size=5))
@example(values=["\x00", "\\u0000", "a\x00b", "\ud7ff", "\u2028\u2029\x7f", "'\"\\", "x" * 70_000])
@example(values=[2**63, -(2**63) - 1, 10**40, 1e-320, -0.0, 1.7976931348623157e308])
@example(values=[{"": {"": [[], {}, None]}}, {"\x00": 1, "at_us": 2, "prev": 3}])
def test_any_json_is_kept(store_url: str, values: list[JsonValue]) -> None:
    task = kept_task()
    with Simulation(Jobs(keep=task), url=store_url) as sim:
        for value in values:
            before = len(sim.events("task:keep:a"))
            sim.task(task).send("a", value)
            entries = sim.history("task:keep:a")[before:]
            data = {entry.event: entry.data for entry in entries}
            for event, name in (("EventReceived", "payload"), ("MessageSent", "payload")):
                assert repr(data[event][name]) == repr(value)
            state = data["StateSet"].get("state")
            assert repr(state) == repr(value)
            for _ in range(2):
                assert repr(sim.task(task).get_state("a")) == repr(value)
                sim.restart()
        audit(sim.application.store, "task:keep:a")


@pytest.mark.parametrize(
    "value", ["\ud800", {"\udfff": 1}, [float("nan")], float("inf"), {"a": float("-inf")}, object()]
)
def test_what_json_cannot_say_is_refused(store_url: str, value: Any) -> None:
    task = kept_task()
    with Simulation(Jobs(keep=task), url=store_url) as sim:
        with pytest.raises(ValidationError, match="event of 'keep' is not valid"):
            sim.task(task).send("b", value)
        assert sim.task(task).status("b").status == "not_found"
        assert sim.events("task:keep:b") == []


@settings(quick, max_examples=25)
@given(given_ids=st.lists(ids, min_size=1, max_size=8, unique=True), size=st.integers(1, 4))
@example(given_ids=["\u00e9", "e\u0301", "a:b", "a", ":", "%", "_", "A"], size=1)
@example(given_ids=["\uffff", "\U00010000", "\ue000", "z"], size=2)
def test_any_id_is_an_instance_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, given_ids: list[str], size: int
) -> None:
    for url in ("memory://", f"sqlite:///{tmp_path_factory.mktemp('ids')}/jobs.db"):
        task = kept_task()
        good: list[str] = []
        with Simulation(Jobs(keep=task), url=url) as sim:
            for number, id in enumerate(given_ids):
                try:
                    sim.task(task).send(id, number)
                    good.append(id)
                except InvalidIdError:
                    assert any(ord(c) < 32 or 127 <= ord(c) < 160 for c in id) or len(id) > 255
            sim.restart()
            assert [sim.task(task).get_state(id) for id in good] == [
                number for number, id in enumerate(given_ids) if id in good
            ]
            found: list[str] = []
            while page := sim.list(limit=size, after=found[-1] if found else None):
                found += [row.instance_id for row in page]
            assert sorted(found) == found == sorted(f"task:keep:{id}" for id in good)
            assert audit_all(sim.application.store).keys() == set(found)
            for id in good:
                [began, *_] = sim.history(f"task:keep:{id}")
                assert json.loads(json.dumps(began.data))["id"] == id


# -- many at once


@pytest.mark.parametrize("apps", [1, 2])
def test_no_increment_is_lost_among_applications_of_one_process(store_url: str, apps: int) -> None:
    """U2, with the narrowest of gaps between reading and writing."""
    task: Task[int, int] = Task(state=int, event=int)

    @task.on_event
    async def add(ctx: TaskContext[int], event: int) -> None:
        count = ctx.state or 0
        for _ in range(event):
            await asyncio.sleep(0)
        ctx.set_state(count + 1)

    async def live() -> None:
        jobs = Jobs(count=task)
        opened = [jobs.open(store_url, worker=True, cache=1, snapshot_every=7) for _ in range(apps)]
        async with opened[0] as one, opened[-1] if apps > 1 else jobs.open("memory://") as two:
            clients = [app.task(task) for app in (one, two)[:apps]]
            sends = [
                client.send(id, number % 5, wait=True, timeout="30s")
                for number in range(40)
                for client in clients
                for id in ("a", "b")
            ]
            answers = await asyncio.gather(*sends)
            assert {await clients[0].get_state(id) for id in ("a", "b")} == {40 * apps}
            versions = [(answer.instance_id, answer.version) for answer in answers]
            assert len(set(versions)) == len(versions)
            assert audit_all(one.application.store).keys() == {"task:count:a", "task:count:b"}

    asyncio.run(live())
