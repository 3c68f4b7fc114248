"""What is due when, in order: a heap whose outdated entries are dropped when they reach its top."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

__all__ = ["DueQueue", "queue_of"]

_SLACK = 64
"""How many outdated entries a heap may have beyond as many as it has live ones."""


class DueQueue:
    """One due time for each stream. Not thread-safe."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._live: dict[str, int] = {}

    def __contains__(self, stream: str) -> bool:
        return stream in self._live

    def __iter__(self) -> Iterator[str]:
        return iter(self._live)

    def put(self, stream: str, at_us: int) -> None:
        """Set the stream's due time, whatever it was."""
        if self._live.get(stream) == at_us:
            return
        self._live[stream] = at_us
        heapq.heappush(self._heap, (at_us, stream))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [(at_us, stream) for stream, at_us in self._live.items()]
            heapq.heapify(self._heap)

    def drop(self, stream: str) -> None:
        """Remove the stream."""
        self._live.pop(stream, None)

    def first_us(self, skip: Callable[[str], bool] = lambda stream: False) -> int | None:
        """The earliest due time of a stream that is not to be skipped."""
        while self._heap:
            at_us, stream = self._heap[0]
            if self._live.get(stream) != at_us:
                heapq.heappop(self._heap)  # replaced since
            elif skip(stream):
                break
            else:
                return at_us
        first = self._take(1, None, skip)
        return first[0][0] if first else None

    def upto(
        self, now_us: int, limit: int, skip: Callable[[str], bool]
    ) -> Sequence[tuple[int, str]]:
        """The first `limit` due times until `now_us`, earliest first; they stay in the queue."""
        return self._take(limit, now_us, skip)

    def _take(
        self, limit: int, upto_us: int | None, skip: Callable[[str], bool]
    ) -> list[tuple[int, str]]:
        heap, live = self._heap, self._live
        found: list[tuple[int, str]] = []
        skipped: list[tuple[int, str]] = []
        last: tuple[int, str] | None = None
        while heap and len(found) < limit and (upto_us is None or heap[0][0] <= upto_us):
            entry = heapq.heappop(heap)
            if live.get(entry[1]) != entry[0] or entry == last:
                continue  # replaced since, or there twice
            last = entry
            (skipped if skip(entry[1]) else found).append(entry)
        for entry in found:
            heapq.heappush(heap, entry)
        for entry in skipped:
            heapq.heappush(heap, entry)
        return found


def queue_of(queues: dict[str, DueQueue], job: str) -> DueQueue:
    """The queue of a job, made if there is none."""
    queue = queues.get(job)
    if queue is None:
        queue = queues[job] = DueQueue()
    return queue
