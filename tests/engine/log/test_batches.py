"""Batches: a line for each item, of which one can be destroyed without breaking the chain (E4)."""

from __future__ import annotations

import random

import pytest

from wakelog.core.pool.events import EventsReceived
from wakelog.errors import IntegrityError
from wakelog.log.batches import digest_of, item_line, read_item, root_of
from wakelog.log.payloads import Salts
from wakelog.log.records import Meta, decode, encode, hash_of
from wakelog.ports.records import StoredEvent

STREAM = "workerPool:mails:shared"
SALTS = Salts(random.Random(7))
LINES = [
    item_line("5a17", '{"to":"a"}', None, None),
    item_line("5a18", '"b\u2028"', "key \u00e4", None),
    item_line("5a19", "3", None, "mail-17"),
]


def stored(lines: list[bytes]) -> StoredEvent:
    root = root_of(map(digest_of, lines))
    event = EventsReceived(count=len(lines), root=root, lanes=(), lines=b"\n".join(lines))
    [record], _ = encode(STREAM, 0, "", [event], Meta(1, "c1"), SALTS)
    return record


def with_lines(record: StoredEvent, lines: list[bytes]) -> StoredEvent:
    first, _, _ = record.state.partition(b"\n")
    return StoredEvent(STREAM, 1, record.topic, b"\n".join([first, *lines]))


def test_items_are_read_back_as_they_were_accepted() -> None:
    event = decode(stored(LINES)).event
    assert isinstance(event, EventsReceived)
    items = [read_item(line) for line in event.lines.split(b"\n")]
    payloads = [bytes(item.payload).decode() for item in items if item]
    assert payloads == ['{"to":"a"}', '"b\u2028"', "3"]
    assert [(item.salt, item.key, item.id) for item in items if item] == [
        ("5a17", None, None), ("5a18", "key \u00e4", None), ("5a19", None, "mail-17"),
    ]  # fmt: skip


def test_E4_an_item_is_destroyed_and_neither_root_nor_chain_nor_any_place_changes() -> None:
    record = stored(LINES)
    digest = b'"%b"' % digest_of(LINES[1]).hex().encode()
    gone = with_lines(record, [LINES[0], digest.ljust(len(LINES[1])), LINES[2]])
    assert hash_of(gone) == hash_of(record)
    event = decode(gone).event
    assert isinstance(event, EventsReceived)
    lines = event.lines.split(b"\n")
    assert [read_item(line) is None for line in lines] == [False, True, False]


@pytest.mark.parametrize(
    "lines",
    [LINES[:2], [*LINES, LINES[0]], [LINES[1], LINES[0], LINES[2]], [], [b"", *LINES[1:]],
     [LINES[0].replace(b"a", b"z"), *LINES[1:]], [b'"00"', *LINES[1:]], [b'"no hex"', *LINES[1:]]],
)  # fmt: skip
def test_K1_lines_that_the_root_is_not_of_are_noticed(lines: list[bytes]) -> None:
    changed = with_lines(stored(LINES), lines)
    for read in (decode, hash_of):
        with pytest.raises(IntegrityError):
            read(changed)
