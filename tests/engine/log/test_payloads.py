"""Payloads: stored beside the record, each item under a salt of its own, and destroyed alone."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter

from tests.golden.make import EXAMPLES
from tests.support import Ctx, Staging
from wakelog import ExecutionError
from wakelog.core.events import (
    EVENTS,
    Cleared,
    DeadLettered,
    Event,
    EventHandled,
    EventReceived,
    ExecutionFailed,
    Parked,
    Started,
    StateSet,
    StepCompleted,
)
from wakelog.core.pool.events import Batch
from wakelog.errors import UnreadableEventError
from wakelog.history.descriptions import describe
from wakelog.log.payloads import SAID, Salts
from wakelog.log.rebuild import GENESIS, refold
from wakelog.log.records import Meta, Recorded, decode, encode, hash_of
from wakelog.ports.records import Loaded, StoredEvent

STREAM = "task:job:a"
AT_US = 1_767_225_600_000_000
FAILED = ExecutionFailed(
    handler="on_event", error_type="E", message="of ann", traceback="at ann", payload='{"of":"ann"}'
)
BEGUN = Started(kind="task", name="job", id="a")


def written(*events: Event) -> list[StoredEvent]:
    meta = Meta(AT_US, "c1")
    return encode(STREAM, 0, GENESIS, events, meta, Salts(random.Random(7)))[0]


def destroyed(stored: StoredEvent, *items: int) -> StoredEvent:
    """The record with these items of its payload destroyed, as the page about the log says it."""
    line, *lines = stored.state.split(b"\n")
    lines = [b"" if number // 2 in items else each for number, each in enumerate(lines)]
    return replace(stored, state=b"\n".join([line, *lines]))


def read(*records: StoredEvent) -> list[Recorded]:
    return [decode(stored) for stored in records]


# -- what an error said ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        FAILED,
        ExecutionFailed(handler="execute", error_type="E", message="of ann"),
        ExecutionFailed(handler="execute", error_type="E", traceback="at ann"),
        DeadLettered(event_version=1, reason="handler_failed", message="of ann"),
        Parked(reason="unreadable", message="of ann"),
    ],
)
def test_E4_what_an_error_said_is_in_the_part_that_can_be_destroyed(event: Event) -> None:
    [stored] = written(event)
    line, _, rest = stored.state.partition(b"\n")
    assert b"ann" not in line
    assert b"ann" in rest
    assert decode(stored).event == event
    assert b"ann" not in destroyed(stored, 0, 1).state


def test_an_error_that_said_nothing_has_no_payload() -> None:
    event = ExecutionFailed(handler="execute", error_type="E")
    [stored] = written(event)
    assert b"\n" not in stored.state
    assert decode(stored).event == event


def test_E4_a_refused_value_is_not_in_the_part_that_stays(stage: Staging) -> None:
    """Pydantic's messages, and the tracebacks of errors, quote the values that they are about."""

    def on_event(ctx: Ctx, event: dict[str, str]) -> None:
        ctx.set_state(0)
        if event["card"] != "0":
            TypeAdapter(int).validate_python(event["card"])

    job = stage(on_event=on_event)
    job.send({"card": "0"})
    with pytest.raises(ExecutionError, match="input_value='4711-x'"):
        job.send({"card": "4711-x"})
    job.send({"card": "4711-x"}, delay="1h")
    job.sim.advance("30d")
    stored = job.sim.application.store.events(STREAM)
    assert {"wakelog.ExecutionFailed", "wakelog.DeadLettered"} <= {each.topic for each in stored}
    assert not [each for each in stored if b"4711-x" in each.state.partition(b"\n")[0]]


def test_no_field_of_an_event_has_the_name_of_what_surrounds_it() -> None:
    meta = Meta(1, "c", "cause", "corr", "actor", 2, "trace")
    [stored], _ = encode(STREAM, 0, GENESIS, [FAILED], meta, Salts(random.Random(7)))
    surrounding = set(json.loads(stored.state.partition(b"\n")[0])) - set(FAILED.__struct_fields__)
    assert len(surrounding) == 9
    for cls in EVENTS.values():
        assert not surrounding & set(cls.__struct_fields__)


# -- salts and digests -----------------------------------------------------------------------------


def test_E4_each_payload_and_each_item_has_a_salt_of_its_own() -> None:
    records = written(*[EventReceived(payload='"ann"')] * 2000, *[FAILED] * 100)
    lines = [line for stored in records for line in stored.state.split(b"\n")[1::2]]
    salts = {json.loads(line)["salt"] for line in lines}
    assert len(salts) == len(lines) == 2200
    assert {len(salt) for salt in salts} == {32}


def test_each_item_has_a_digest_that_stays_when_it_is_destroyed() -> None:
    [stored] = written(FAILED)
    line, *lines = stored.state.split(b"\n")
    items = [b"\n".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]
    digests = json.loads(line)["digest"]
    assert digests == [hashlib.sha256(item).hexdigest() for item in items]
    for gone in ([0], [1], [0, 1]):
        left = destroyed(stored, *gone)
        assert json.loads(left.state.partition(b"\n")[0])["digest"] == digests
        assert hash_of(left) == hash_of(stored) == decode(left).hash


# -- reading what was destroyed --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "message", "traceback", "payload"),
    [
        ([0], "(erased)", "", '{"of":"ann"}'),
        ([1], "of ann", "at ann", None),
        ([0, 1], "(erased)", "", None),
    ],
)
def test_E4_an_item_is_destroyed_alone(
    gone: Sequence[int], message: str, traceback: str, payload: str | None
) -> None:
    [stored] = written(FAILED)
    recorded = decode(destroyed(stored, *gone))
    assert recorded.erased
    assert isinstance(recorded.event, ExecutionFailed)
    event = recorded.event
    assert (event.message, event.traceback, event.payload) == (message, traceback, payload)


@pytest.mark.parametrize(
    "name", [name for name, event in EXAMPLES.items() if not isinstance(event, Batch)]
)
def test_E4_a_destroyed_payload_of_any_event_is_read_as_such(name: str) -> None:
    # given
    event = EXAMPLES[name]
    [stored] = written(event)
    has_payload = b"\n" in stored.state
    assert has_payload == bool(event.PAYLOAD or SAID[type(event)])
    # when
    recorded = decode(destroyed(stored, 0, 1))
    # then
    assert recorded.erased == has_payload
    now = {field: getattr(recorded.event, field) for field in event.__struct_fields__}
    said = {field: "" for field in SAID[type(event)]}
    if event.PAYLOAD:
        assert now.pop(event.PAYLOAD) is None
    assert {field: now.pop(field) for field in said} == (said and said | {"message": "(erased)"})
    assert now == {field: getattr(event, field) for field in now}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (StateSet(state="1"), "(erased)"),
        (EventReceived(payload="1"), "event (erased)"),
        (FAILED, "E: (erased)"),
        (Parked(reason="unreadable", error_type="E", message="m"), "E: (erased)"),
    ],
)
def test_H1_what_was_destroyed_is_described_as_such(event: Event, words: str) -> None:
    assert words in describe(decode(destroyed(written(event)[0], 0, 1)))


def test_a_payload_without_its_line_feed_is_destroyed_too() -> None:
    records = written(EventReceived(payload="1"), FAILED)
    cut = [replace(each, state=each.state.partition(b"\n")[0]) for each in records]
    assert [(r.erased, r.hash) for r in read(*cut)] == [(True, r.hash) for r in read(*records)]


def test_E4_the_chain_holds_over_what_was_destroyed_and_is_worked_on_if_it_is_not_needed() -> None:
    # given an old state, a handled event and a message that are gone
    records = written(
        BEGUN, EventReceived(payload="1"), StateSet(state="1"), FAILED, StateSet(state="2")
    )
    kept = refold(STREAM, Loaded(None, records))
    for version in (1, 2, 3):
        records[version] = destroyed(records[version], 0, 1)
    # when
    head = refold(STREAM, Loaded(None, records))
    # then
    assert (head.hash, head.instance.state) == (kept.hash, "2")


@pytest.mark.parametrize(
    ("events", "version"),
    [
        ([BEGUN, StateSet(state="1")], 2),
        ([replace(BEGUN, input="1")], 1),
        ([BEGUN, EventReceived(payload="1", deferred=True), StateSet()], 2),
        ([BEGUN, EventReceived(payload="1", window=1), StateSet(state="1")], 2),
    ],
)
def test_E4_no_handler_is_given_nothing_in_the_place_of_what_was_destroyed(
    events: list[Event], version: int
) -> None:
    records = written(*events)
    records[version - 1] = destroyed(records[version - 1], 0)
    with pytest.raises(UnreadableEventError, match="its payload was destroyed") as raised:
        refold(STREAM, Loaded(None, records))
    assert raised.value.version == version


@pytest.mark.parametrize(
    "after",
    [
        [Cleared(), BEGUN],
        [Cleared()],
        [StateSet(state=None)],
        [EventHandled(event_version=2), StateSet(state="3")],
    ],
)
def test_what_is_over_may_be_destroyed(after: list[Event]) -> None:
    records = written(BEGUN, EventReceived(payload="1", deferred=True), StateSet(state="1"), *after)
    handled = not isinstance(after[0], StateSet)
    for version in (1, 2) if handled else (2,):
        records[version] = destroyed(records[version], 0)
    assert refold(STREAM, Loaded(None, records)).instance.version == len(records)


# -- what this release does not read ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"codec": "aes-256-gcm", "key": ["s-1"]}, "codec 'aes-256-gcm'"),
        ({"key": "subject-7"}, "key 'subject-7'"),
    ],
)
def test_a_payload_in_a_codec_that_is_not_known_is_never_taken_for_plain_text(
    head: dict[str, object], said: str
) -> None:
    salted = json.dumps({"salt": "00" * 16, **head}, separators=(",", ":")).encode()
    other = with_item(written(EventReceived(payload="1"))[0], lambda _: salted + b"\n1")
    assert hash_of(other)
    with pytest.raises(UnreadableEventError, match=f"has the {said}, which this release"):
        decode(other)


def test_other_fields_beside_a_salt_are_ignored() -> None:
    longer = with_item(
        written(StepCompleted(run=1, step="s", result="1"))[0],
        lambda item: item.replace(b'"}', b'","new_field":1}'),
    )
    event = decode(longer).event
    assert isinstance(event, StepCompleted)
    assert event.result == "1"


def with_item(stored: StoredEvent, change: Callable[[bytes], bytes]) -> StoredEvent:
    """The record with another payload, under the digest of that."""
    line, _, item = stored.state.partition(b"\n")
    changed = change(item)
    before, after = (hashlib.sha256(each).hexdigest().encode() for each in (item, changed))
    assert before in line
    return replace(stored, state=line.replace(before, after) + b"\n" + changed)
