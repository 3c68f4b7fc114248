"""The lane of what another session keeps locked: who waits there, in which order, for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support import WAIT_S
from wakelog.errors import StoreUnavailableError
from wakelog.ports.units import Appended, KeyTaken, StreamLocked, Unit, VersionConflict
from wakelog.runtime import locked_lane
from wakelog.runtime.append_driver import MAX_UNITS_PER_APPEND, AppendDriver
from wakelog.runtime.group_commit import GroupCommit
from wakelog.runtime.store_threads import InlineExecutor
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.memory.store import MemoryStore

pytestmark = pytest.mark.anyio

LONG_S = 2 * WAIT_S


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locked_lane, "PAUSE_S", 0)


class Store(MemoryStore):
    """In memory, with streams that another session keeps locked."""

    def __init__(self, locked: set[str], wait_s: float = LONG_S) -> None:
        super().__init__()
        self.locked = locked
        self.wait_s = wait_s
        self.groups: list[list[str]] = []
        """The ids of the units of each append."""
        self.broken: Exception | None = None
        self.tried = asyncio.Semaphore(0)

    def append(self, units: Sequence[Unit]) -> Appended:
        self.groups.append([unit.stream.rpartition(":")[2] for unit in units])
        self.tried.release()
        if self.broken is not None:
            raise self.broken
        good = [unit for unit in units if unit.stream not in self.locked]
        appended = super().append(good)
        errors = dict(zip(map(id, good), appended.errors, strict=True))
        return Appended(
            [errors.get(id(unit), StreamLocked(unit.stream, self.wait_s)) for unit in units]
            if len(good) < len(units)
            else appended.errors,
            appended.next_due_us,
        )


class Committer(GroupCommit):
    def __init__(self, store: Store) -> None:
        self.refused: list[Unit] = []
        driver = AppendDriver(store, InlineExecutor(yields=True))
        super().__init__(
            store,
            driver,
            driver,
            on_refused=self.refused.append,
            on_appended=lambda units, due_us: None,
        )

    def all(self, *units: Unit) -> list[asyncio.Future[None]]:
        return [self.submit(unit) for unit in units]


async def tries(store: Store, count: int) -> None:
    """So many more appends."""
    store.tried = asyncio.Semaphore(0)
    async with asyncio.timeout(WAIT_S):
        for _ in range(count):
            await store.tried.acquire()


async def outcomes(futures: Sequence[asyncio.Future[None]]) -> list[type[BaseException] | None]:
    async with asyncio.timeout(WAIT_S):
        ended = await asyncio.gather(*futures, return_exceptions=True)
    return [None if error is None else type(error) for error in ended]


async def test_K5_later_units_of_a_locked_instance_wait_behind_it_and_all_others_go_on() -> None:
    held, other = UnitBuilder("held"), UnitBuilder("other")
    store = Store({held.stream})
    committer = Committer(store)
    # given two units of it in the first group, one that is queued meanwhile, and a late one
    first = committer.all(held.begin(), other.begin(), held.receive())
    await tries(store, 1)
    queued = committer.all(held.receive(), other.receive())
    await tries(store, 3)
    late = committer.all(held.receive(), other.receive())
    assert await outcomes([first[1], queued[1], late[1]]) == [None] * 3
    mine = [first[0], first[2], queued[0], late[0]]
    assert not any(future.done() for future in mine)
    # when it is free
    store.locked.clear()
    # then all are recorded, which they are in their order only
    assert await outcomes(mine) == [None] * 4
    await committer.drained()
    assert committer.refused == []
    assert await outcomes(committer.all(held.receive())) == [None]


async def test_K5_a_unit_that_is_refused_in_the_lane_takes_those_behind_it_along() -> None:
    held = UnitBuilder("held")
    store = Store({held.stream})
    committer = Committer(store)
    late = held.fork()
    futures = committer.all(late.begin(), late.receive())
    await tries(store, 2)
    store.locked.clear()
    MemoryStore.append(store, [held.begin()])  # another process was faster
    assert await outcomes(futures) == [VersionConflict, VersionConflict]
    assert len(committer.refused) == 2
    assert await outcomes(committer.all(held.receive())) == [None]


async def test_K5_what_stays_locked_is_given_up_alone_with_all_that_waits_for_it() -> None:
    held, other = UnitBuilder("held"), UnitBuilder("other")
    store = Store({held.stream}, wait_s=0)
    committer = Committer(store)
    futures = committer.all(held.begin(), other.begin(), held.receive())
    assert await outcomes(futures) == [StoreUnavailableError, None, StoreUnavailableError]
    async with asyncio.timeout(WAIT_S):
        await committer.drained()
    assert {unit.stream for unit in committer.refused} == {held.stream}
    with pytest.raises(StoreUnavailableError, match=r"\(locked\): another session keeps task"):
        await futures[0]


async def test_more_than_one_append_takes_have_their_turn_in_the_lane() -> None:
    builders = [UnitBuilder(f"o-{n}") for n in range(MAX_UNITS_PER_APPEND + 10)]
    store = Store({builder.stream for builder in builders})
    committer = Committer(store)
    futures = committer.all(*(builder.begin() for builder in builders))
    await tries(store, 4)
    assert max(map(len, store.groups)) == MAX_UNITS_PER_APPEND
    store.locked.remove(builders[-1].stream)  # the last in the row, and the only one that is free
    assert await outcomes(futures[-1:]) == [None]
    store.locked.clear()
    assert await outcomes(futures) == [None] * len(futures)


async def test_an_error_of_the_store_ends_all_that_were_tried() -> None:
    builders = [UnitBuilder("o-1"), UnitBuilder("o-2")]
    store = Store({builder.stream for builder in builders})
    committer = Committer(store)
    futures = committer.all(*(builder.begin() for builder in builders))
    await tries(store, 2)
    store.broken = KeyTaken("whatever")
    assert await outcomes(futures) == [KeyTaken, KeyTaken]
    store.broken, store.locked = None, set()
    assert await outcomes(committer.all(builders[0].fork().receive())) == [VersionConflict]


async def test_drained_waits_for_the_lane() -> None:
    held = UnitBuilder("held")
    store = Store({held.stream})
    committer = Committer(store)
    [future] = committer.all(held.begin())
    drained = asyncio.ensure_future(committer.drained())
    await tries(store, 3)
    assert not drained.done()
    store.locked.clear()
    async with asyncio.timeout(WAIT_S):
        await drained
    assert future.result() is None


async def test_a_store_that_does_not_wait_refuses_what_is_locked_at_once() -> None:
    held = UnitBuilder("held")
    store = Store({held.stream})
    committer = GroupCommit(
        store, None, on_refused=lambda unit: None, on_appended=lambda units, due_us: None
    )
    assert await outcomes([committer.submit(held.begin())]) == [StoreUnavailableError]
