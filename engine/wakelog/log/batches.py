"""Batches: the bodies of records that are about many items, a line for each.

    ["b3c1…",{"to":"a@example.org"},"tenant-a","mail-17"]

A line of `EventsReceived` is a JSON array: a salt, the user's JSON byte for byte, the partition key
and the id that the caller gave, if any. Compact JSON has no line feed. The digest of an item is the
SHA-256 of its line, and `root`, in the record's first line, that of all digests in their order. An
item can be destroyed on request by putting its digest, as a JSON text padded with blanks, in the
place of its line: the root stays what it was, and so does the place of every other line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256

import msgspec
from msgspec import Struct

from wakelog.errors import IntegrityError
from wakelog.ports.records import StoredEvent

__all__ = ["ERASED_LINE", "Item", "check_root", "digest_of", "item_line", "read_item", "root_of"]

ERASED_LINE = b'"'
"""How a line begins whose item was destroyed."""

_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Item(Struct, frozen=True, array_like=True):
    """An item as it was accepted."""

    salt: str
    payload: msgspec.Raw
    key: str | None = None
    """The partition key."""
    id: str | None = None
    """The id that the caller gave."""


_ITEM = msgspec.json.Decoder(Item)


def item_line(salt: str, payload: str, key: str | None, id: str | None) -> bytes:
    """The line of an item; its payload is compact JSON."""
    if key is None and id is None:
        return f'["{salt}",{payload}]'.encode()
    given = "null" if key is None else _text(key)
    if id is not None:
        given += f",{_text(id)}"
    return f'["{salt}",{payload},{given}]'.encode()


def read_item(line: bytes) -> Item | None:
    """The item of a line; None if it was destroyed. Raises `ValueError` if it is no such line."""
    return None if line.startswith(ERASED_LINE) else _ITEM.decode(line)


def digest_of(line: bytes) -> bytes:
    """The digest of an item, also of one that was destroyed."""
    if line.startswith(ERASED_LINE):
        return bytes.fromhex(line.rstrip().strip(b'"').decode())
    return sha256(line).digest()


def root_of(digests: Iterable[bytes]) -> str:
    """The digest of a batch."""
    return sha256(b"".join(digests)).hexdigest()


def check_root(stored: StoredEvent, root: object, body: bytes) -> None:
    """Raise `IntegrityError` if the lines are not those that `root` is of."""
    try:
        found = root_of(map(digest_of, body.split(b"\n"))) if body else root_of(())
    except ValueError:
        found = ""
    if found != root:
        raise IntegrityError(stored.stream, stored.version, "its lines are not what its root is of")
