"""The leases of a worker: those that it works under, and what a renewal says of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from typing import NamedTuple

from wakelog.clock import Clock
from wakelog.errors import StoreUnavailableError
from wakelog.ports.store import Store

__all__ = ["HeldLeases", "LeaseKey", "Renewal"]

_LOG = logging.getLogger("wakelog.worker")

LeaseKey = tuple[str, int]
"""A stream, and the token of the lease on it."""


class Renewal(NamedTuple):
    """Leases on which the worker and the store disagree, in two renewals in a row."""

    lost: Collection[LeaseKey]
    """The worker works under them, and the store does not have them."""
    orphaned: Collection[LeaseKey]
    """The store has them for this worker, which does not work under them."""


class HeldLeases:
    """What one worker has claimed and not finished. Any thread may use it."""

    def __init__(self, store: Store, owner: str, lease_us: int, clock: Clock) -> None:
        self._store = store
        self._owner = owner
        self._lease_us = lease_us
        self._clock = clock
        self._lock = threading.Lock()
        self._held: set[LeaseKey] = set()
        self._next: dict[LeaseKey, LeaseKey] = {}
        """What some of them become with what is being appended, which may be recorded already."""
        self._doubtful: set[LeaseKey] = set()
        """Those on which the last renewal found the worker and the store to disagree."""
        self._lost: set[LeaseKey] = set()
        """Those that were told to be lost, and whose work has not ended yet."""
        self._missing: set[LeaseKey] = set()
        """Those that the last look did not find."""

    def add(self, keys: Collection[LeaseKey]) -> None:
        """These were claimed."""
        with self._lock:
            self._held.update(keys)

    def becomes(self, before: LeaseKey, after: LeaseKey) -> None:
        """An append that begins a run under a lease is about to be made: the store has one of the
        two from now on. The event loop, which hears of the append's end, may be blocked then."""
        with self._lock:
            self._next[before] = after

    def rekey(self, before: LeaseKey, after: LeaseKey) -> None:
        """A run has begun under a lease, which has its version as its token from now on."""
        with self._lock:
            self._held.add(after)
            self._forget(before)

    def discard(self, key: LeaseKey) -> None:
        """This one is finished, and given up with its outcome."""
        with self._lock:
            self._forget(key)

    def _forget(self, key: LeaseKey) -> None:
        self._held.discard(key)
        self._lost.discard(key)
        self._next.pop(key, None)

    def give_back(self, keys: Sequence[LeaseKey]) -> None:
        """Give up the leases of what has not begun: it is claimed again, here or elsewhere. Blocks.

        While the store is away they stay: they end, or a beat drops them.
        """
        if not keys:
            return
        for key in keys:
            self.discard(key)
        try:
            self._store.release(self._owner, keys)
        except StoreUnavailableError as error:
            _LOG.warning("%d claims could not be given back: %s", len(keys), error)

    def look(self) -> Collection[LeaseKey]:
        """Those under which the worker works and that the store did not have in two looks in a
        row: cleared, terminated or taken over. Blocks; called by one thread.

        Raises `StoreUnavailableError`.
        """
        with self._lock:
            before = list(self._held)
        if not before:
            self._missing = set()
            return ()
        tokens = self._store.lease_tokens([stream for stream, _ in before])
        with self._lock:
            missing = {
                key
                for key, token in zip(before, tokens, strict=True)
                if token not in (key[1], self._next.get(key, key)[1])
                and key in self._held - self._lost
            }
            confirmed, self._missing = missing & self._missing, missing
            self._lost |= confirmed
        return confirmed

    def renew(self) -> Renewal:
        """Renew all leases of this worker in one statement. Blocks; called by one thread.

        Only what two renewals in a row disagree on is told: in between, a claim or an outcome may
        just have been appended. Raises `StoreUnavailableError`.
        """
        now_us = self._clock.now_us()
        with self._lock:
            before = set(self._held)
        stored = set(self._store.renew(self._owner, now_us + self._lease_us, now_us))
        with self._lock:
            held = {key for key in before & self._held if self._next.get(key) not in stored}
            orphaned = stored - before - self._held - set(self._next.values())
        doubtful = (held - stored) | orphaned
        confirmed, self._doubtful = doubtful & self._doubtful, doubtful
        with self._lock:
            lost = confirmed - orphaned - self._lost
            self._lost |= lost & self._held
        return Renewal(lost, confirmed & orphaned)
