"""What all parts of the exam share: opening and closing stores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from wakelog.ports.rows import Due
from wakelog.ports.store import Store
from wakelog.ports.units import ANY_ENDED, ClaimRequest, NothingDue, Takeover
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, claim_request

__all__ = ["ExamBase"]

_TOKENS = itertools.count(-1, -1)


class ExamBase:
    """One test's stores."""

    _opened: list[Store]

    def make_store(self, folder: Path) -> Store:
        """Open the store that belongs to `folder`: the same one each time, if the folder is."""
        raise NotImplementedError

    def setup_method(self) -> None:
        self._opened = []

    def teardown_method(self) -> None:
        for store in self._opened:
            store.close()

    def open(self, folder: Path) -> Store:
        """A store that is closed when the test ends."""
        store = self.make_store(folder)
        self._opened.append(store)
        return store

    def claim(
        self,
        store: Store,
        *builders: UnitBuilder,
        now_us: int = NOW,
        limit: int = 10,
        owner: str = "w1",
        jobs: Sequence[str] = (ORDERS,),
        limits: Mapping[str, int] = {},
        takeover: Takeover = ANY_ENDED,
    ) -> Sequence[Due]:
        """Claim orders, start a run of those that have a builder here, give the others back, and
        return all that was claimed."""
        request = claim_request(
            next(_TOKENS),
            now_us=now_us,
            jobs=jobs,
            limit=limit,
            owner=owner,
            limits=limits,
            takeover=takeover,
        )
        claimed = self.claimed(store, request)
        by_stream = {builder.stream: builder for builder in builders}
        mine = [by_stream[due.stream] for due in claimed if due.stream in by_stream]
        others = [due.stream for due in claimed if due.stream not in by_stream]
        units = [
            builder.run(owner, now_us + 1000, at_us=now_us, lease_token=request.token)
            for builder in mine
        ]
        assert not any(store.append(units).errors)
        store.release(owner, [(stream, request.token) for stream in others])
        return claimed

    def claimed(self, store: Store, request: ClaimRequest) -> Sequence[Due]:
        """What a claim has taken, without the heads that a store may return with it."""
        result = store.claim(request)
        dues = () if isinstance(result, NothingDue) else result
        return [replace(due, head=None, newest=None) for due in dues]
