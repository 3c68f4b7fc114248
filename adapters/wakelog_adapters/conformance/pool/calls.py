"""The exam of a store's pools, first part: calls that look, plan and write."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import (
    ExceptionKey,
    IdRow,
    PartitionLease,
    PoolSeen,
    PoolWrites,
    TakenRow,
    TrailRow,
)
from wakelog.ports.rows import JobPauseRow
from wakelog.ports.store import Store
from wakelog.ports.units import Lease
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.pool.units import (
    POOL,
    SHARED,
    call,
    count_up,
    document,
    excepted,
    number_in,
    pool_event,
    pool_look,
    seen_by,
    segment,
)
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, in_parallel

__all__ = ["PoolCallsExam"]

FIRST, SECOND = f"{POOL}:0", f"{POOL}:1"
"""The streams of two partitions."""
CALLS = 50
"""How often each of several threads calls."""
A_MOMENT_S = 0.05
NOTHING = PoolSeen(state=None)


def everything() -> PoolWrites:
    """One of each kind of row."""
    return PoolWrites(
        events=[pool_event(1, b"item"), pool_event(1, stream=FIRST)],
        state=document(lanes=[[3, 0, 1]], groups=[[0, 0, 0]]),
        segments=[segment(3, 1, 1, 1, 0, 4)],
        taken=[TakenRow(4, 2, 0, 1)],
        ids=[IdRow("a", 3, 1, "f", NOW, 0)],
        put=[excepted(3, 2)],
        skips=[ExceptionKey(3, 1)],
        trail=[TrailRow(3, 2, FIRST, 1)],
        leases=[(FIRST, "w1", 5, 1000)],
        commit="commit",
    )


class PoolCallsExam(ExamBase):
    """A call writes all that was planned, or nothing; calls come one after the other."""

    def pool_of(self, folder: Path, writes: PoolWrites) -> Store:
        """A store whose pool has what one call has written."""
        store = self.open(folder)
        call(store, writes)
        return store

    def everything_seen(self, store: Store) -> tuple[Any, ...]:
        seen = seen_by(store, ids=["a"], due_limit=9, keys=[ExceptionKey(3, 2)], leases=True)
        return (
            *(seen, store.events(SHARED), store.events(FIRST)),
            *(store.pool_taken(POOL, 4, 1), [*store.pool_trail(POOL, 3, 2)]),
        )

    def test_a_pool_that_never_was_is_empty(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        wide = {"ids": ["a"], "due_limit": 9, "keys": [ExceptionKey(1, 1)], "leases": True}
        assert seen_by(store, **wide) == replace(
            NOTHING, firsts=[], due=[], ids=[], exceptions=[], behind=[], leases=[], skips=[]
        )
        assert call(store, PoolWrites(), **wide).state is None
        assert [*store.pool_slices(POOL, [(1, 0, 9)])] == []
        assert store.pool_taken(POOL, 1, 1) is None
        assert [*store.pool_trail(POOL, 1, 1)] == []
        assert [*store.pool_blocked(POOL, ["k"])] == []

    def test_what_a_call_writes_is_seen_together(self, tmp_path: Path) -> None:
        writes = everything()
        store = self.pool_of(tmp_path, writes)
        seen, shared, partition, taken, trail = self.everything_seen(store)
        assert seen == PoolSeen(
            state=writes.state,
            number=1,
            firsts=[*writes.segments],
            due=[*writes.put],
            ids=[*writes.ids],
            exceptions=[*writes.put],
            behind=[],
            leases=[PartitionLease(FIRST, "w1", 5, False)],
            skips=[*writes.skips],
        )
        assert [*shared, *partition] == writes.events
        assert (taken, trail) == (writes.taken[0], writes.trail)
        assert self.everything_seen(self.open(tmp_path))[0] == seen

    def test_a_plan_that_raises_writes_nothing(self, tmp_path: Path) -> None:
        store = self.pool_of(tmp_path, everything())
        before = self.everything_seen(store)

        for error in (OSError("no plan"), ValueError("no"), KeyboardInterrupt()):

            def fail(seen: PoolSeen, error: BaseException = error) -> PoolWrites:
                raise error

            with pytest.raises(type(error)) as raised:
                store.pool_call(pool_look(), fail)
            assert raised.value is error
        assert self.everything_seen(store) == before
        call(store, PoolWrites(events=[pool_event(2)], commit="commit"))
        assert [event.version for event in store.events(SHARED)] == [1, 2]

    @pytest.mark.parametrize(
        "twice",
        [
            PoolWrites(events=[pool_event(2), pool_event(1)]),
            PoolWrites(segments=[segment(3, 1, 1, 2)]),
            PoolWrites(taken=[TakenRow(4, 2, 1, 9)]),
            PoolWrites(ids=[IdRow("b", 3, 4, "f", NOW, 0), IdRow("a", 3, 5, "f", NOW, 0)]),
        ],
        ids=["events", "segments", "taken", "ids"],
    )
    def test_a_call_with_a_row_that_is_there_writes_nothing(
        self, tmp_path: Path, twice: PoolWrites
    ) -> None:
        store = self.pool_of(tmp_path, everything())
        before = self.everything_seen(store)
        more = replace(
            twice, state=document(), put=[excepted(1, 1)], gone=[ExceptionKey(3, 2)],
            dropped=[FIRST],
        )  # fmt: skip
        with pytest.raises(StoreUnavailableError) as raised:
            call(store, more)
        assert raised.value.reason == "refused"
        assert self.everything_seen(store) == before
        assert seen_by(store, keys=[ExceptionKey(1, 1)]).exceptions == []

    def test_a_plan_sees_what_the_call_before_it_wrote(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        for number in range(1, 6):
            store.pool_call(pool_look(), count_up)
            assert number_in(seen_by(store).state) == number
            assert seen_by(store).number == number

    def test_plans_come_one_after_the_other(self, tmp_path: Path) -> None:
        stores = [self.open(tmp_path), self.open(tmp_path)]

        def count(store: Store) -> None:
            for _ in range(CALLS):
                store.pool_call(pool_look(), count_up)

        in_parallel([threading.Thread(target=count, args=(stores[i % 2],)) for i in range(4)])
        assert number_in(seen_by(stores[0]).state) == 4 * CALLS
        versions = [event.version for event in stores[0].events(SHARED)]
        assert versions == [*range(1, 4 * CALLS + 1)]

    def test_events_of_pools_and_of_instances_are_in_one_order(self, tmp_path: Path) -> None:
        store: Any = self.open(tmp_path)

        def count() -> None:
            for _ in range(CALLS):
                store.pool_call(pool_look(), count_up)

        def send(builder: UnitBuilder) -> None:
            assert store.append([builder.begin()]).errors == [None]
            for _ in range(CALLS):
                assert store.append([builder.receive()]).errors == [None]

        senders = [threading.Thread(target=send, args=(UnitBuilder(f"o-{i}"),)) for i in range(2)]
        in_parallel([threading.Thread(target=count), *senders, threading.Thread(target=count)])
        log = store.select_notifications(1, 1_000)
        assert [each.id for each in log] == [*range(1, 2 * CALLS + 2 * (CALLS + 2) + 1)]
        mine = [each.originator_version for each in log if each.originator_id == SHARED]
        assert mine == [*range(1, 2 * CALLS + 1)]

    def test_a_document_and_rows_come_back_as_they_were(self, tmp_path: Path) -> None:
        text = "☃ 🎉 'x' \"y\" \\u0000 \\ \x7f\n"
        state = document(text=text, long="x" * 100_000)
        id, key = IdRow(text, 1, 1 << 40, text, NOW, 0), ExceptionKey(1, 1 << 40)
        row = excepted(*key, why=text, key=text, seq=1 << 50, detail=f'{{"a":"{text}"}}')
        trail = TrailRow(*key, f"{POOL}:☃", 1)
        store = self.pool_of(tmp_path, PoolWrites(state=state, ids=[id], put=[row], trail=[trail]))
        seen = seen_by(store, ids=[text], keys=[key])
        assert (seen.state, seen.ids, seen.exceptions) == (state, [id], [row])
        assert [*store.pool_blocked(POOL, [text])] == [(text, 1 << 50)]
        assert [*store.pool_trail(POOL, *key)] == [trail]

    @pytest.mark.parametrize("id", ["a\0b", "\ud800"])
    def test_an_id_that_no_store_keeps_is_not_found(self, tmp_path: Path, id: str) -> None:
        store = self.pool_of(tmp_path, PoolWrites(ids=[IdRow("a", 1, 1, "f", NOW, 0)]))
        assert seen_by(store, ids=[id]).ids == []
        assert [row.id for row in seen_by(store, ids=["b", id, "a"]).ids] == ["a"]

    def test_pools_are_apart(self, tmp_path: Path) -> None:
        store = self.pool_of(tmp_path, everything())
        other = "workerPool:sms"
        seen = seen_by(store, pool=other, ids=["a"], keys=[ExceptionKey(3, 2)], leases=True)
        assert (seen.state, seen.ids, seen.exceptions, seen.leases) == (None, [], [], [])
        call(store, PoolWrites(state=document(), ids=[IdRow("a", 1, 1, "g", NOW, 0)]), pool=other)
        assert seen_by(store, ids=["a"]).ids == [*everything().ids]

    def test_a_pool_that_is_paused_as_a_job_says_so(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.pause_job(JobPauseRow(ORDERS, None, None, NOW))
        assert not seen_by(store).is_paused
        store.pause_job(JobPauseRow(POOL, None, None, NOW))
        assert seen_by(store).is_paused
        assert call(store, PoolWrites()).is_paused
        store.resume_job(POOL)
        assert not call(store, PoolWrites()).is_paused

    def test_to_pause_a_pool_as_a_job_waits_for_a_call_under_way(self, tmp_path: Path) -> None:
        store, other = self.open(tmp_path), self.open(tmp_path)
        paused = threading.Event()

        def pause() -> None:
            other.pause_job(JobPauseRow(POOL, None, None, NOW))
            paused.set()

        def plan(seen: PoolSeen) -> PoolWrites:
            pauses.start()
            assert not paused.wait(A_MOMENT_S)
            return count_up(seen)

        pauses = threading.Thread(target=pause)
        store.pool_call(pool_look(), plan)
        pauses.join()
        assert seen_by(store).is_paused
        assert number_in(seen_by(store).state) == 1

    # -- leases

    def test_leases_of_partitions_are_taken_and_end_by_the_clock(self, tmp_path: Path) -> None:
        store = self.pool_of(
            tmp_path, PoolWrites(leases=[(FIRST, "w1", 5, 100), (SECOND, "w2", 6, 200)])
        )
        assert seen_by(store).leases == []
        for now_us, ended in ((NOW + 99, (False, False)), (NOW + 100, (True, False))):
            assert seen_by(store, leases=True, now_us=now_us).leases == [
                PartitionLease(FIRST, "w1", 5, ended[0]),
                PartitionLease(SECOND, "w2", 6, ended[1]),
            ]
        assert store.lease_tokens([SECOND, FIRST]) == [6, 5]
        held = {each.stream: each.lease for each in store.leases(NOW, 9)}
        assert held[FIRST] == Lease("w1", NOW + 100, 5, False)

    def test_leases_of_partitions_are_renewed_and_released(self, tmp_path: Path) -> None:
        store = self.pool_of(
            tmp_path, PoolWrites(leases=[(FIRST, "w1", 5, 100), (SECOND, "w2", 6, 100)])
        )
        assert [*store.renew("w1", NOW + 500, NOW + 50)] == [(FIRST, 5)]
        assert self._leases(store, NOW + 200) == [(FIRST, 5, False), (SECOND, 6, True)]
        store.release("w2", [(SECOND, 6), (FIRST, 5)])
        assert self._leases(store, NOW + 200) == [(FIRST, 5, False)]

    def test_a_lease_of_a_partition_is_replaced_and_dropped(self, tmp_path: Path) -> None:
        store = self.pool_of(
            tmp_path, PoolWrites(leases=[(FIRST, "w1", 5, 100), (SECOND, "w1", 6, 100)])
        )
        seen = call(
            store, PoolWrites(leases=[(FIRST, "w2", 7, 100)], dropped=[SECOND]),
            now_us=NOW + 100, leases=True,
        )  # fmt: skip
        assert [(lease.token, lease.has_ended) for lease in sorted(seen.leases)] == [
            (5, True),
            (6, True),
        ]
        assert self._leases(store, NOW + 199) == [(FIRST, 7, False)]
        assert store.renew("w1", NOW + 500, NOW + 150) == []

    def _leases(self, store: Store, now_us: int) -> Sequence[tuple[str, int, bool]]:
        leases = seen_by(store, leases=True, now_us=now_us).leases
        return [(lease.stream, lease.token, lease.has_ended) for lease in leases]

    def test_claims_and_the_sweep_leave_partitions_alone(self, tmp_path: Path) -> None:
        store, builder = self.pool_of(tmp_path, everything()), UnitBuilder()
        store.append([builder.begin(NOW)])
        late_us = NOW + 1_000_000
        assert store.stranded(late_us, 9) == []
        assert store.next_due_us([ORDERS], NOW) == NOW
        assert [due.stream for due in self.claim(store, now_us=late_us)] == [builder.stream]
        assert self._leases(store, late_us) == [(FIRST, 5, True)]

    def test_events_of_a_pool_are_read_like_those_of_an_instance(self, tmp_path: Path) -> None:
        store = self.pool_of(tmp_path, everything())
        call(store, PoolWrites(events=[pool_event(2, b"x" * 300_000), pool_event(3)]))
        assert [event.version for event in store.events(SHARED, after=1)] == [2, 3]
        assert len(store.events(SHARED, after=1, limit=1)[0].state) > 300_000
        loaded = store.load(SHARED)
        assert (loaded.snapshot, loaded.newest, len(loaded.tail)) == (None, None, 3)
        assert store.status([SHARED, FIRST]) == [None, None]
