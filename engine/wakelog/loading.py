"""Loading: how instances are rebuilt from what a store has of them. Blocks where the store does."""

from __future__ import annotations

from collections.abc import Sequence

from wakelog.errors import HistoryError
from wakelog.log import Head, from_snapshot, refold
from wakelog.ports import Loaded, Store

__all__ = ["load_heads", "rebuilt"]


def load_heads(store: Store, streams: Sequence[str]) -> list[Head | HistoryError]:
    """How these instances stand now, or why that cannot be known."""
    return [
        _head(store, stream, loaded)
        for stream, loaded in zip(streams, store.load_all(streams), strict=True)
    ]


def rebuilt(store: Store, stream: str, loaded: Loaded, *, upto: int | None = None) -> Head:
    """`refold`, or where the snapshot cannot be used: from the first event on, to version `upto`.

    A snapshot is a short cut and never the truth: one of another release, or a damaged one, costs
    time and nothing else. Raises what `refold` raises.
    """
    if loaded.snapshot is None:
        return refold(stream, loaded)
    start = from_snapshot(stream, loaded.snapshot)
    if start is None:
        loaded = Loaded(None, store.events(stream, upto=upto))
    return refold(stream, loaded, start)


def _head(store: Store, stream: str, loaded: Loaded) -> Head | HistoryError:
    try:
        return rebuilt(store, stream, loaded)
    except HistoryError as error:
        return error
