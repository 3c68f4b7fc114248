"""What all parts of the exam share: opening and closing stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wakelog.ports.rows import Due
from wakelog.ports.store import Store
from wakelog.ports.units import ANY_ENDED, Takeover, Unit
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder

__all__ = ["ExamBase"]


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
        """Claim orders, start a run of those that have a builder here, return what was offered."""
        offered: list[Due] = []
        by_stream = {builder.stream: builder for builder in builders}

        def begin(dues: Sequence[Due]) -> Sequence[Unit]:
            offered.extend(dues)
            mine = [by_stream[due.stream] for due in dues if due.stream in by_stream]
            return [builder.run(owner, now_us + 1000, at_us=now_us) for builder in mine]

        store.claim(
            now_us=now_us, jobs=jobs, limit=limit, begin=begin, limits=limits, takeover=takeover
        )
        return offered
