"""The memory store's outbox, by pair of sender and target; and the positions of followers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from msgspec.structs import replace

from wakelog.ids import job_of
from wakelog.ports.messages import LEFT_US, Message, Received, Sent
from wakelog.ports.units import Unit
from wakelog_adapters.memory.event_log import MemoryLog

__all__ = ["MemoryMessages"]


class MemoryMessages(MemoryLog):
    """Messages and positions beside the log, under its lock."""

    def __init__(self) -> None:
        super().__init__()
        self._outbox: dict[str, dict[str, dict[int, Message]]] = {}
        """By sender, target and version, in the order of versions."""
        self._received: dict[tuple[str, str], int] = {}
        """By target and sender."""
        self._positions: dict[str, int] = {}
        """Of followers, by name."""

    def _send(self, sender: str, sent: Sequence[Sent], now_us: int) -> None:
        """Put them into the outbox; their events are in the log."""
        for version, target in sent:
            [event] = self._between(sender, version - 1, version)
            message = Message(sender, version, target, now_us, now_us + LEFT_US, None, event)
            pairs = self._outbox.setdefault(sender, {})
            pairs.setdefault(target, {})[version] = message

    def _receive(self, unit: Unit, received: Received) -> None:
        self._received[unit.stream, received.sender] = received.version
        pair = self._outbox.get(received.sender, {}).get(unit.stream, {})
        for version in [each for each in pair if each <= received.version]:
            self._forget(pair[version])

    def _forget(self, message: Message) -> None:
        pairs = self._outbox.get(message.sender, {})
        pair = pairs.get(message.target, {})
        pair.pop(message.version, None)
        if not pair:
            pairs.pop(message.target, None)
        if not pairs:
            self._outbox.pop(message.sender, None)

    def messages_due(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[str]:
        with self._database_lock:
            due = sorted((m.due_us, m.sender) for m in self._firsts(jobs) if m.due_us <= now_us)
            return [*islice(dict.fromkeys(sender for _, sender in due), limit)]

    def _firsts(self, jobs: Sequence[str]) -> Iterator[Message]:
        """The first message of each pair to these jobs."""
        for pairs in self._outbox.values():
            for target, pair in pairs.items():
                if job_of(target) in jobs:
                    yield next(iter(pair.values()))

    def messages_of(self, senders: Sequence[str], limit: int) -> Sequence[Message]:
        with self._database_lock:
            placed = [
                (place, sender, version, message)
                for sender in {*senders}
                for pair in self._outbox.get(sender, {}).values()
                for place, (version, message) in enumerate(pair.items())
            ]
        found = nsmallest(limit, placed, key=lambda each: each[:3])
        return [message for *_, message in sorted(found, key=lambda each: each[1:3])]

    def hold_message(self, message: Message, held: str, due_us: int) -> None:
        with self._database_lock:
            pair = self._outbox.get(message.sender, {}).get(message.target, {})
            if message.version in pair:
                pair[message.version] = replace(message, held=held, due_us=due_us)

    def forget_messages(self, messages: Sequence[Message]) -> None:
        with self._database_lock:
            for message in messages:
                self._forget(message)

    # -- followers

    def positions(self) -> Mapping[str, int]:
        with self._database_lock:
            return dict(self._positions)

    def put_position(self, name: str, position: int) -> None:
        with self._database_lock:
            self._positions[name] = max(position, self._positions.get(name, 0))
