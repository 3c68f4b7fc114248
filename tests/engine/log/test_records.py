"""The log as a format: records that read back, chained so that nothing changes unnoticed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support import Staging
from wakelog.core.events import (
    EVENTS,
    Cleared,
    Event,
    EventReceived,
    ExecutionFailed,
    FlushReason,
    RunStarted,
    Scheduled,
    Started,
    StateSet,
    Trigger,
    WakeAction,
)
from wakelog.core.evolve import fold
from wakelog.core.instance import DeferredEvent, Failure, Instance, OpenRun, PendingRetry, Unread
from wakelog.core.windows import Window
from wakelog.errors import IntegrityError, UnreadableEventError
from wakelog.ids import KINDS, InstanceId
from wakelog.log.payloads import Salts
from wakelog.log.rebuild import GENESIS, SNAPSHOT_FORMAT, Head, refold, sealed, snapshot
from wakelog.log.records import Meta, decode, encode, hash_of
from wakelog.ports.records import Loaded, StoredEvent, StoredSnapshot
from wakelog.sorted_chunks import SortedChunks

STREAM = "task:job:a"
META = Meta(1_767_225_600_000_000, "c1")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNIT: list[Event] = [
    Started(kind="task", name="job", id="a"),
    EventReceived(payload='{"a":1}'),
    StateSet(state="1"),
    Scheduled(due_us=META.at_us + 1),
]


def written(*events: Event, meta: Meta = META) -> list[StoredEvent]:
    return encode(STREAM, 0, GENESIS, events, meta, Salts(random.Random(7)))[0]


def with_state(stored: StoredEvent, old: bytes, new: bytes) -> StoredEvent:
    assert old in stored.state
    return replace(stored, state=stored.state.replace(old, new))


def test_a_record_is_json_and_the_payload_as_it_was_sent_byte_for_byte() -> None:
    # when
    stored = written(*UNIT)[1]
    # then
    line, _, item = stored.state.partition(b"\n")
    assert json.loads(line)["commit"] == "c1"
    assert json.loads(line)["digest"] == hashlib.sha256(item).hexdigest()
    salt, payload = item.split(b"\n")
    assert (list(json.loads(salt)), payload) == (["salt"], b'{"a":1}')
    assert stored.topic == "wakelog.EventReceived"


def test_defaults_are_left_out() -> None:
    line = json.loads(written(Cleared())[0].state)
    assert set(line) == {"at_us", "commit", "prev"}


def test_what_is_written_is_read_with_all_that_surrounds_it() -> None:
    # given
    meta = Meta(META.at_us, "c2", "task:job:b@7", "corr é\n", 'ann "x" 🦄', META.at_us - 1, TRACE)
    # when
    read = [decode(stored) for stored in written(*UNIT, meta=meta)]
    # then
    assert [r.event for r in read] == UNIT
    assert [r.version for r in read] == [1, 2, 3, 4]
    assert {(r.commit, r.at_us, r.cause, r.correlation, r.actor) for r in read} == {
        ("c2", META.at_us, "task:job:b@7", "corr é\n", 'ann "x" 🦄')
    }
    assert {(r.clock_us, r.trace, r.erased) for r in read} == {(META.at_us - 1, TRACE, False)}


def test_each_event_names_the_hash_of_the_one_before_it() -> None:
    records, newest = encode(STREAM, 0, GENESIS, UNIT, META, Salts(random.Random(7)))
    read = [decode(stored) for stored in records]
    assert [r.prev for r in read] == [GENESIS, *(r.hash for r in read[:-1])]
    assert newest == read[-1].hash


@pytest.mark.parametrize(
    ("index", "old", "new"),
    [
        (0, b'"a"', b'"b"'),
        (1, b'"digest":"', b'"digest":"0'),
        (2, b'"commit":"c1"', b'"commit":"c2"'),
    ],
)
def test_a_changed_record_breaks_the_chain(index: int, old: bytes, new: bytes) -> None:
    records = written(*UNIT)
    records[index] = with_state(records[index], old, new)
    with pytest.raises(IntegrityError) as raised:
        refold(STREAM, Loaded(None, records))
    assert raised.value.version in (index + 1, index + 2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"a":1}', b'{"a":2}'),
        (b'{"salt":"', b'{"salt":"0'),
        (b'"}\n{"a":1}', b'","codec":"x"}\n{"a":1}'),
        (b'\n{"a":1}', b' {"a":1}'),
        (b'{"a":1}', b'{"a":1}\n{"a":1}'),
    ],
)
def test_H4_a_changed_payload_is_found_in_its_own_record(old: bytes, new: bytes) -> None:
    changed = with_state(written(*UNIT)[1], old, new)
    for read in (decode, hash_of):
        with pytest.raises(IntegrityError, match="broken at version 2: its payload is not what"):
            read(changed)


def test_H4_a_payload_that_no_digest_names_is_found() -> None:
    stored = written(*UNIT)[3]
    added = replace(stored, state=stored.state + b'\n{"salt":"00"}\n1')
    for read in (decode, hash_of):
        with pytest.raises(IntegrityError, match="no digest names its payload"):
            read(added)


def test_a_missing_a_repeated_and_a_swapped_record_are_found() -> None:
    one, two, three, four = written(*UNIT)
    for tail in ([one, three, four], [one, one, two], [two, one], [two]):
        with pytest.raises(IntegrityError):
            refold(STREAM, Loaded(None, tail))


def test_a_record_cannot_be_moved_to_another_stream() -> None:
    records = [replace(stored, stream="task:job:b") for stored in written(*UNIT)]
    with pytest.raises(IntegrityError):
        refold("task:job:b", Loaded(None, records))


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: replace(stored, topic="wakelog.Unknown"),
        lambda stored: replace(stored, state=b""),
        lambda stored: replace(stored, state=b"not json"),
        lambda stored: replace(stored, state=b"\xff\xfe"),
        lambda stored: replace(stored, state=b"[]"),
        lambda stored: with_state(stored, b'"commit"', b'"comit"'),
        lambda stored: with_state(stored, b'"due_us"', b'"do_us"'),
    ],
)
def test_what_cannot_be_read_is_never_skipped(
    damage: Callable[[StoredEvent], StoredEvent],
) -> None:
    with pytest.raises(UnreadableEventError) as raised:
        decode(damage(written(*UNIT)[3]))
    assert (raised.value.stream, raised.value.version) == (STREAM, 4)


def test_fields_of_a_newer_release_are_ignored() -> None:
    stored = with_state(written(*UNIT)[3], b'"due_us"', b'"new_field":[1],"due_us"')
    assert decode(stored).event == UNIT[3]


def test_a_snapshot_is_a_short_cut_and_another_format_is_none() -> None:
    # given
    records, hash = encode(STREAM, 0, GENESIS, UNIT, META, Salts(random.Random(7)))
    instance = fold(Instance(InstanceId.parse(STREAM)), UNIT, META.at_us)
    kept = snapshot(Head(instance, hash))
    # then
    assert refold(STREAM, Loaded(kept, [])) == refold(STREAM, Loaded(None, records))
    content = kept.state.partition(b",")[2][:-1]
    older = sealed(content.replace(b"[%d," % SNAPSHOT_FORMAT, b"[0,", 1))
    torn = kept.state[:-1]
    assert older != kept.state
    for other in (b"{}", b"not json", b"\xff", b"", older, torn):
        broken = StoredSnapshot(kept.version, other)
        assert refold(STREAM, Loaded(broken, records)) == Head(instance, hash)


def test_an_instance_of_another_shape_needs_another_snapshot_format() -> None:
    """Fails where what a snapshot keeps has changed: raise SNAPSHOT_FORMAT, and write both here."""
    held = (SortedChunks, DeferredEvent, Window)
    parts = (Instance, InstanceId, OpenRun, PendingRetry, Failure, Unread, *held)
    fields = [(part.__name__, part.__annotations__, part.__struct_defaults__) for part in parts]
    shape = json.dumps(
        [fields, get_args(WakeAction), get_args(Trigger), get_args(FlushReason), KINDS],
        default=repr,
    )
    digest = hashlib.sha256(shape.encode()).hexdigest()
    assert (SNAPSHOT_FORMAT, digest[:16]) == (6, "912789a3cdc5719e")


@given(
    payload=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
    message=st.text(),
    due_us=st.integers(-(2**53), 2**53),
)
def test_any_event_reads_back_as_it_was_written(payload: object, message: str, due_us: int) -> None:
    # given what the engine may be given (lone surrogates are refused or escaped at the door)
    text = json.dumps(payload)
    clean = message.encode("utf-8", "backslashreplace").decode()
    events: list[Event] = [
        EventReceived(payload=text, event_id=clean or None),
        StateSet(state=text),
        ExecutionFailed(handler="execute", error_type="E", message=clean, payload=text),
        RunStarted(run=1, due_us=due_us, worker=clean, events=(1, 2)),
    ]
    # then
    assert [decode(stored).event for stored in written(*events)] == events


def test_the_whole_log_of_a_real_life_folds_to_what_the_engine_holds(stage: Staging) -> None:
    # given
    job = stage(execute=lambda ctx: ctx.schedule("1h"), sim={"settings": None})
    job.send({"set_state": 1, "schedule": "5m"})
    job.sim.advance("300h")
    job.clear()
    job.send({"set_state": 2})
    # when
    store = job.sim.application.store
    whole = refold(STREAM, Loaded(None, store.events(STREAM)))
    # then
    assert whole == refold(STREAM, store.load(STREAM))
    assert store.load(STREAM).snapshot is not None
    assert (whole.instance.lives, whole.instance.state) == (2, "2")


def test_every_topic_is_a_chosen_word_of_one_class() -> None:
    assert all(topic == f"wakelog.{cls.__name__}" for topic, cls in EVENTS.items())
