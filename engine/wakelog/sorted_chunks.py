"""A sorted sequence that never changes, and of which another with one item more is cheap to make.

A tuple of n items is copied as a whole for each change, so that to take one after the other away
costs n times n. Here a change copies one chunk, and the list of chunks.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator
from operator import eq, itemgetter
from typing import Any, Generic, Protocol, TypeVar, cast

from msgspec import Struct

__all__ = ["CHUNK", "SortedChunks"]

CHUNK = 128
"""Items of one chunk, at most."""


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)

_newest = itemgetter(-1)


class SortedChunks(Struct, Generic[T], frozen=True, array_like=True, eq=False):
    """Equal to another with the same items, however those lie in chunks."""

    chunks: tuple[tuple[T, ...], ...] = ()
    """None of them is empty."""
    count: int = 0

    @classmethod
    def of(cls, items: Iterable[T]) -> SortedChunks[T]:
        """These items, in their order."""
        ordered = sorted(items)
        starts = range(0, len(ordered), CHUNK)
        chunks = tuple(tuple(ordered[start : start + CHUNK]) for start in starts)
        return cls(chunks, len(ordered))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self.chunks)

    def __reversed__(self) -> Iterator[T]:
        for chunk in reversed(self.chunks):
            yield from reversed(chunk)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SortedChunks):
            return NotImplemented
        items = cast("Iterable[object]", other)
        return self.count == other.count and all(map(eq, self, items))

    def __hash__(self) -> int:
        return hash(tuple(self))

    @property
    def first(self) -> T | None:
        """The first item; None if there is none."""
        return self.chunks[0][0] if self.chunks else None

    def plus(self, item: T) -> SortedChunks[T]:
        """With this item too, in its place, behind any that are equal."""
        chunks = self.chunks
        if not chunks:
            return SortedChunks(((item,),), 1)
        at = len(chunks) - 1
        if item < chunks[at][-1]:
            at = bisect.bisect_right(chunks, item, key=_newest)
        chunk = chunks[at]
        place = bisect.bisect_right(chunk, item)
        items = (*chunk[:place], item, *chunk[place:])
        if len(items) <= CHUNK:
            return SortedChunks((*chunks[:at], items, *chunks[at + 1 :]), self.count + 1)
        half = CHUNK if place == CHUNK else CHUNK // 2  # at the end none is moved
        halves = items[:half], items[half:]
        return SortedChunks((*chunks[:at], *halves, *chunks[at + 1 :]), self.count + 1)

    def minus(self, item: T) -> SortedChunks[T]:
        """Without the first item that is equal to this one, if there is one."""
        chunks = self.chunks
        at = bisect.bisect_left(chunks, item, key=_newest)
        if at == len(chunks):
            return self
        chunk = chunks[at]
        place = bisect.bisect_left(chunk, item)
        if chunk[place] != item:
            return self
        shorter = chunk[:place] + chunk[place + 1 :]
        left = (shorter,) if shorter else ()
        return SortedChunks((*chunks[:at], *left, *chunks[at + 1 :]), self.count - 1)
