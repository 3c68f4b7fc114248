"""Snapshots are a short cut: whatever became of one, nothing is told differently."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.auditing import fold_from_the_log
from tests.support import Ctx, task_of
from wakelog import Jobs
from wakelog.log.rebuild import SNAPSHOT_FORMAT, sealed
from wakelog.ports.records import StoredSnapshot
from wakelog.ports.store import Store
from wakelog.ports.units import Unit
from wakelog.settings import Settings
from wakelog.testing import Simulation

STREAM = "task:job:a"
HEAD = b"[%d," % SNAPSHOT_FORMAT

SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "of an older release": lambda state: state.replace(HEAD, b"[1,", 1),
    "of a newer release": lambda state: state.replace(HEAD, b"[99,", 1),
    "cut short": lambda state: state[: len(state) // 2],
    "with too few fields": lambda state: state[: state.index(b"]")] + b"]]]",
    "with too many fields": lambda state: state[:-2] + b",0]]",
    "of another instance": lambda state: state.replace(b'"a"', b'"b"', 1),
    "of another version": lambda state: state.replace(b'"a"],', b'"a"],1', 1),
    "no JSON": lambda state: b"\x00",
    "empty": lambda state: b"",
    "no UTF-8": lambda state: state.replace(b'"job"', b'"j\xffb"'),
    "nested without end": lambda state: b"[" * 100_000,
}


UNSEALED: dict[str, Callable[[bytes], bytes]] = {
    "with another state": lambda state: re.sub(rb'"(\d+)"', rb'"9\1"', state, count=1),
    "with a flipped bit": lambda state: state[:-9] + bytes([state[-9] ^ 1]) + state[-8:],
    "with another hash": lambda state: state.replace(HEAD + b'"', HEAD + b'"0', 1),
}


def resealed(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The change, under a digest that is right again: the rest must be looked at all the same."""
    return lambda state: sealed(change(state.partition(b",")[2][:-1]))


SPOILT = {name: resealed(change) for name, change in SPOILT.items()} | UNSEALED


def counted(ctx: Ctx, event: dict[str, int]) -> None:
    ctx.set_state((ctx.state or 0) + 1)
    ctx.schedule("1h")


def spoil(store: Store, change: Callable[[bytes], bytes]) -> None:
    """Put another snapshot in the place of the newest one."""
    head = fold_from_the_log(store, STREAM)
    version = head.instance.version
    newest = store.snapshot_before(STREAM, version)
    assert newest is not None
    spoilt = StoredSnapshot(newest.version, change(newest.state))
    assert spoilt != newest
    unit = Unit(STREAM, version, head.hash, (), head.instance, head.hash, "c", snapshot=spoilt)
    assert store.append([unit]).errors == [None]
    assert store.load(STREAM).snapshot == spoilt


@pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)
def test_a_snapshot_that_cannot_be_used_is_passed_over(
    store_url: str, change: Callable[[bytes], bytes]
) -> None:
    jobs = Jobs(job=task_of(counted, execute=lambda ctx: ctx.schedule("2h")))
    with Simulation(jobs, url=store_url, settings=Settings(snapshot_every=5)) as sim:
        # given a process that has nothing in memory, and a snapshot that it cannot read
        for _ in range(4):
            sim.task("job").send("a", {})
        spoil(sim.application.store, change)
        sim.restart()
        # then it knows all the same how the instance stood, and stands
        known = [sim.state_at(STREAM, version=version) for version in (4, 13)]
        assert [state.state for state in known] == [1, 4]
        assert sim.task("job").send("a", {}).version == 16
        # and a claim, of a process that has not loaded it, can begin a run
        spoil(sim.application.store, change)
        sim.restart()
        sim.advance("1h")
        status = sim.task("job").status("a")
        assert (status.execute_count, status.status) == (1, "active")
        assert sim.task("job").get_state("a") == 5


def test_a_worker_begins_what_is_due_beside_a_damaged_snapshot(store_url: str) -> None:
    jobs = Jobs(job=task_of(counted, execute=lambda ctx: None))
    with Simulation(jobs, url=store_url, settings=Settings(snapshot_every=5)) as sim:
        for _ in range(4):
            for id in "abc":
                sim.task("job").send(id, {})
        spoil(sim.application.store, SPOILT["no UTF-8"])
        sim.restart()
        sim.advance("1h")
        assert [sim.task("job").status(id).execute_count for id in "abc"] == [1, 1, 1]
