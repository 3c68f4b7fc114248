"""The committer alone: which units go together, and who is told when."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence

import pytest

from wakelog.ports.units import Appended, Unit, VersionConflict
from wakelog.runtime.append_driver import MAX_UNITS_PER_APPEND, AppendDriver
from wakelog.runtime.group_commit import MAX_RESOLVED_AT_ONCE, GroupCommit
from wakelog.runtime.store_threads import InlineExecutor
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.memory.store import MemoryStore

pytestmark = pytest.mark.anyio

TURNS = 20
"""Of the loop, for all that is ready to happen."""


class Held(AppendDriver):
    """Appends that end when the test says so."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), InlineExecutor())
        self.sizes: list[int] = []
        self._ends: list[asyncio.Future[Appended]] = []

    @property
    def are_watched(self) -> bool:
        return True

    def append(self, units: Sequence[Unit]) -> asyncio.Future[Appended]:
        self.sizes.append(len(units))
        end: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        return end

    def end(self, error: Exception | None = None) -> None:
        """The newest append is on the disk, or all its units are refused."""
        self._ends[-1].set_result(Appended([error] * self.sizes[-1], None))


def committer_of(
    appends: AppendDriver, on_appended: Callable[[], None] = lambda: None
) -> GroupCommit:
    return GroupCommit(
        MemoryStore(),
        appends,
        on_refused=lambda unit: None,
        on_appended=lambda units, due_us: on_appended(),
    )


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_K5_what_becomes_ready_during_an_append_goes_with_the_next() -> None:
    appends = Held()
    committer = committer_of(appends)
    committer.submit(UnitBuilder("o-0").begin())
    await turns()
    late = [
        committer.submit(UnitBuilder(f"o-{n}").begin())
        for n in range(1, 1 + 2 * MAX_UNITS_PER_APPEND)
    ]
    await turns()
    assert appends.sizes == [1]
    for _ in range(3):
        appends.end()
        await turns()
    assert appends.sizes == [1, MAX_UNITS_PER_APPEND, MAX_UNITS_PER_APPEND]
    assert all(future.done() for future in late)


async def test_the_store_gets_the_next_append_before_the_callers_of_the_last_one_are_told() -> None:
    appends = Held()
    begun: list[int] = []
    committer = committer_of(appends, lambda: begun.append(len(appends.sizes)))
    committer.submit(UnitBuilder("o-0").begin())
    await turns()
    committer.submit(UnitBuilder("o-1").begin())
    appends.end()
    await turns()
    assert begun == [2]


async def test_a_unit_built_on_a_refused_one_does_not_go_with_the_next_append() -> None:
    appends = Held()
    committer = committer_of(appends)
    builder = UnitBuilder("o-0")
    futures = [committer.submit(builder.begin())]
    await turns()
    futures.append(committer.submit(builder.begin()))
    appends.end(VersionConflict("o-0"))
    await turns()
    assert appends.sizes == [1]
    assert all(isinstance(future.exception(), VersionConflict) for future in futures)


async def test_callers_are_told_some_at_a_time_and_the_loop_goes_on_in_between() -> None:
    # given an append of more than are told at once
    appends = Held()
    committer = committer_of(appends)
    futures = [
        committer.submit(UnitBuilder(f"o-{n}").begin()) for n in range(MAX_RESOLVED_AT_ONCE + 10)
    ]
    await turns()
    drained = asyncio.ensure_future(committer.drained())
    # when it ends
    appends.end()
    told: list[tuple[int, bool]] = []
    for _ in range(TURNS):
        await asyncio.sleep(0)
        told.append((sum(future.done() for future in futures), drained.done()))
    # then the loop has turns between the first callers and the others, and nobody is forgotten
    assert (MAX_RESOLVED_AT_ONCE, False) in told
    assert told[-1] == (len(futures), True)


async def test_an_append_that_ends_meanwhile_has_its_callers_told_after_those_before() -> None:
    appends = Held()
    committer = committer_of(appends)
    first = [committer.submit(UnitBuilder(f"o-{n}").begin()) for n in range(MAX_UNITS_PER_APPEND)]
    await turns()
    order: list[str] = []
    first[-1].add_done_callback(lambda _: order.append("first"))
    second = committer.submit(UnitBuilder("later").begin())
    second.add_done_callback(lambda _: order.append("second"))
    appends.end()
    await turns(1)
    assert len(appends.sizes) == 2
    assert not first[-1].done()
    appends.end()
    await turns()
    assert order == ["first", "second"]


async def test_nobody_complains_of_a_refused_unit_whose_caller_has_gone() -> None:
    # given a caller with a key, which others may wait for too: it gives up, and the unit goes on
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    appends = Held()
    committer = committer_of(appends)
    asyncio.shield(committer.submit(UnitBuilder("o-1").begin())).cancel()
    await turns()
    # when the unit is refused
    appends.end(VersionConflict("o-1"))
    await committer.drained()
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("blocking", [True, False])
async def test_K1_what_fails_after_an_append_does_not_tell_callers_that_it_failed(
    blocking: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # given a process in which nothing can follow an append
    def fail(units: Sequence[Unit], due_us: int | None) -> None:
        raise RuntimeError("can't start new thread")

    appends = Held()
    committer = GroupCommit(
        MemoryStore(),
        appends if blocking else None,
        on_refused=lambda unit: None,
        on_appended=fail,
    )
    for number in range(2):
        # when an append is on the disk
        committed = committer.submit(UnitBuilder(f"o-{number}").begin())
        await turns()
        if blocking:
            appends.end()
        # then its caller is told so, and the next one has its turn
        await committed
        await committer.drained()
    assert "an append is recorded" in caplog.text
