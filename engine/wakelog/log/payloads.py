"""Payloads: the lines of a record behind its first one, two for each item.

    {"salt":"b3c1…"}
    {"status":"pending"}

Each item has a random salt of its own: it cannot be guessed from its digest, and what is left of a
neighbour does not help. The first line has the digests: they stay when an item is destroyed, with
its salt, by emptying its two lines. `codec` and `key` beside the salt are reserved for payloads
that are not plain text; this release reads plain ones.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, cast, get_args

from msgspec.structs import fields

from wakelog.core.events import APART, EVENTS, Event, Payload
from wakelog.core.pool.events import Batch
from wakelog.errors import IntegrityError
from wakelog.ports.records import StoredEvent

__all__ = [
    "ERASED", "SAID", "Salts", "check", "opened", "own_fields", "payload_of", "put_payload",
    "sealed",
]  # fmt: skip

ERASED = "(erased)"
"""What stands for the message of an error that was destroyed."""

SALTS_DRAWN = 1_024
"""How many salts are drawn at a time."""

_NOT_PLAIN = ("codec", "key")
"""What says, beside the salt, that an item is not plain text."""

_OWN: dict[type[Event], tuple[tuple[str, Any], ...]] = {
    cls: tuple(
        (field.name, field.default) for field in fields(cls) if APART not in get_args(field.type)
    )
    for cls in EVENTS.values()
}
"""The fields of an event that are on the first line of its record, with their defaults."""

SAID: dict[type[Event], tuple[str, ...]] = {
    cls: tuple(
        field.name
        for field in fields(cls)
        if APART in get_args(field.type) and field.type != Payload and not issubclass(cls, Batch)
    )
    for cls in EVENTS.values()
}
"""The fields of an event that hold what an error said."""

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Salts:
    """Random salts, one for each item. Thread-safe.

    Each draw from the system's randomness releases the GIL. One draw per unit released it so often,
    and each time so briefly, that the writing thread made no progress while the event loop was
    busy.
    """

    def __init__(self, entropy: random.Random) -> None:
        self._entropy = entropy
        self._drawn: deque[str] = deque()

    def next(self) -> str:
        """32 hexadecimal digits, never returned before."""
        while True:
            try:
                return self._drawn.pop()
            except IndexError:
                digits = self._entropy.randbytes(16 * SALTS_DRAWN).hex()
                self._drawn.extend(digits[at : at + 32] for at in range(0, len(digits), 32))


def own_fields(event: Event) -> dict[str, Any]:
    """What an event says on the first line of its record; defaults are left out."""
    return {
        name: value
        for name, default in _OWN[type(event)]
        if (value := getattr(event, name)) != default
    }


def payload_of(event: Event) -> str | Sequence[str] | None:
    """What is stored beside an event: its payload; what an error said is an item in front of it."""
    if isinstance(event, Batch):
        return None
    name = event.PAYLOAD
    payload: str | None = getattr(event, name) if name else None
    if not (names := SAID[type(event)]):
        return payload
    said = {each: text for each in names if (text := getattr(event, each))}
    if payload is None:
        return _json(said) if said else None
    return [_json(said), payload]


def put_payload(cls: type[Event], fields: dict[str, Any], payload: Any) -> bool:
    """The inverse: adds the fields that `payload` holds; returns whether an item was destroyed."""
    if not (names := SAID[cls]):
        if cls.PAYLOAD:
            fields[cls.PAYLOAD] = payload
        return payload is None or (isinstance(payload, list) and None in payload)
    items: list[Any] = list(cast("Any", payload)) if isinstance(payload, list) else [payload]
    text, *refused = items
    said: dict[str, Any] = {"message": ERASED} if text is None else json.loads(text)
    fields |= {name: said.get(name, "") for name in names}
    if cls.PAYLOAD and refused:
        [fields[cls.PAYLOAD]] = refused
    return None in items


def sealed(payload: str | Sequence[str], salts: Salts) -> tuple[bytes, bytes]:
    """The digest of a payload, as JSON, and its lines; of a batch the list of them, and all lines.

    An item of a batch holds no raw line feed: compact JSON never does.
    """
    if isinstance(payload, str):
        body = f'{{"salt":"{salts.next()}"}}\n{payload}'.encode()
        return b'"%b"' % sha256(body).hexdigest().encode(), body
    items = [f'{{"salt":"{salts.next()}"}}\n{item}'.encode() for item in payload]
    digests = ",".join(f'"{sha256(item).hexdigest()}"' for item in items)
    return f"[{digests}]".encode(), b"\n".join(items)


def check(stored: StoredEvent, line: bytes, body: bytes) -> None:
    """Raise `IntegrityError` if what is behind the first line is not what its digest is of.

    Raises `ValueError` or `TypeError` if that cannot be told.
    """
    if body and b'"digest":"%b"' % sha256(body).hexdigest().encode() not in line:
        opened(stored, json.loads(line).get("digest"), body)


def opened(stored: StoredEvent, digest: Any, body: bytes) -> str | list[str | None] | None:
    """The payload, or a list of the items of a batch; None for what was destroyed.

    Raises `IntegrityError` if an item is not what its digest is of, and `ValueError` or `TypeError`
    if it cannot be read.
    """
    if isinstance(digest, str):
        return _item(stored, digest, body)
    if not isinstance(digest, list):
        if digest is None and body:
            raise IntegrityError(stored.stream, stored.version, "no digest names its payload")
        raise TypeError("digest is neither a text nor a list")
    digests: list[Any] = list(cast("Any", digest))
    lines = body.split(b"\n") if body else [b""] * 2 * len(digests)
    if len(lines) != 2 * len(digests):
        raise IntegrityError(stored.stream, stored.version, "it has another number of items")
    items = [b"\n".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]
    return [_item(stored, *each) for each in zip(digests, items, strict=True)]


def _item(stored: StoredEvent, digest: Any, item: bytes) -> str | None:
    if item in (b"", b"\n"):
        return None
    if sha256(item).hexdigest() != digest:
        raise IntegrityError(
            stored.stream, stored.version, "its payload is not what its digest is of"
        )
    head, line_feed, text = item.partition(b"\n")
    if not line_feed:
        raise ValueError("its payload has no salt")
    if b"," in head:
        said = json.loads(head)
        if found := [f"{name} {said[name]!r}" for name in _NOT_PLAIN if name in said]:
            raise ValueError(f"its payload has the {found[0]}, which this release does not read")
    return text.decode()
