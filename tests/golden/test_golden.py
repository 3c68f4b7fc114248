"""The log is for ever: what any released version wrote is read and folded to the same today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.make import EXAMPLES, HERE, HISTORIES, folded, said_by
from wakelog.core.events import EVENTS
from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance
from wakelog.ids import InstanceId
from wakelog.kinds import BEHAVIOURS
from wakelog.log.rebuild import GENESIS, Head, replayed
from wakelog.log.records import decode
from wakelog.ports.records import StoredEvent

RECORDS = sorted((HERE / "events").glob("*.json"))
TOLD = sorted((HERE / "histories").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return data


def test_every_type_of_event_has_a_golden_record() -> None:
    written = {read(path)["topic"] for path in RECORDS}
    missing = set(EVENTS) - written
    assert not missing, f"add examples to tests/golden/make.py and run it: {missing}"
    assert written <= set(EVENTS), "an event that was released is not readable any more"
    assert {path.stem for path in RECORDS} == set(EXAMPLES)


def test_every_history_is_written_down() -> None:
    assert {path.stem for path in TOLD} == set(HISTORIES)
    assert len(TOLD) >= 2


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_golden_record_is_read_as_it_was_meant(path: Path) -> None:
    # given
    said = read(path)
    stored = StoredEvent(said["stream"], said["version"], said["topic"], said["state"].encode())
    # when
    recorded = decode(stored)
    # then every field that it had has the value that it had
    event = recorded.event
    now = said_by(event)
    assert {name: now[name] for name in said["event"]} == said["event"]
    assert (recorded.at_us, recorded.commit) == (1_795_449_240_123_456, "5f0c1a2b3c4d5e6f1")
    assert (recorded.cause, recorded.correlation) == ("task:order:b@7", "c-1")
    assert (recorded.actor, recorded.prev) == ("ann é", "ab" * 32)
    assert recorded.trace == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    # and it can be folded
    base = Instance(InstanceId.parse(said["stream"]), version=41)
    assert evolve(base, event, recorded.at_us).version == 42


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_a_golden_history_folds_to_the_same_instance(path: Path) -> None:
    # given
    said = read(path)
    stream = said["stream"]
    stored = [
        StoredEvent(stream, version, record["topic"], record["state"].encode())
        for version, record in enumerate(said["records"], 1)
    ]
    # when
    head = Head(Instance(InstanceId.parse(stream)), GENESIS)
    words = []
    for after, _ in replayed(head, stored):
        head = after
        words.append(BEHAVIOURS["task"].status(head.instance))
    # then (fields that came later are not in it)
    now = folded(head.instance)
    assert {name: now[name] for name in said["instance"]} == said["instance"]
    assert head.hash == said["hash"]
    assert words == [record["status"] for record in said["records"]]
