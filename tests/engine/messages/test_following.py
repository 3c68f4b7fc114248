"""Domain events of another `eventsourcing` application drive jobs (E2)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from tests.auditing import audit_all
from tests.support import START, WAIT_S
from wakelog import Jobs, Task, TaskContext, ValidationError
from wakelog.core.events import Executed, MessageSent, StateSet
from wakelog.testing import SimulatedCrash, Simulation


class Account(Aggregate):
    """An account of another application."""

    @event("Opened")
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.balance = 0

    @event("Paid")
    def pay(self, amount: int) -> None:
        self.balance += amount


class Bank(Application[UUID]):
    """That application."""

    def open_account(self, owner: str) -> UUID:
        account = Account(owner)
        self.save(account)
        return account.id

    def pay(self, id: UUID, amount: int) -> None:
        account: Account = self.repository.get(id)
        account.pay(amount)
        self.save(account)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    env = {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(tmp_path / "bank.db"),
    }
    with Bank(env=env) as bank:
        yield bank


class Desk:
    """A job that is driven, and the policy that drives it."""

    def __init__(self, bank: Bank) -> None:
        self.broken = False
        self.thanked = threading.Event()
        letters: Task[list[str], str] = Task(state=list[str], event=str)

        @letters.on_event
        def written(ctx: TaskContext[list[str]], letter: str) -> None:
            ctx.set_state([*(ctx.state or []), letter])
            if letter.startswith("thanks"):
                self.thanked.set()

        def policy(ctx: TaskContext[int], what: Any) -> None:
            if self.broken:
                raise LookupError("no stamps")
            match type(what).__name__:
                case "Opened":
                    ctx.send(letters, "all", f"welcome {what.owner}")
                case "Paid":
                    ctx.send(letters, "all", f"thanks for {what.amount}")
                case _:
                    pass

        self.jobs = Jobs(letters=letters)
        self.jobs.follow(bank, policy, name="accounts")


FOLLOWER = "task:accounts:follower"


def test_E2_events_drive_jobs_in_their_order_and_once(store_url: str, bank: Bank) -> None:
    desk = Desk(bank)
    with Simulation(desk.jobs, url=store_url, start=START) as sim:
        id = bank.open_account("ada")
        bank.pay(id, 5)
        sim.advance("1s")
        bank.pay(id, 7)
        sim.advance("1s")
        sim.advance("1h")
        letters = sim.task("letters").get_state("all")
        assert letters == ["welcome ada", "thanks for 5", "thanks for 7"]
        assert sim.task("accounts").get_state("follower") == 3
        # the position and what was sent are of one append
        first = next(e for e in sim.events(FOLLOWER) if isinstance(e.event, MessageSent)).commit
        together = [type(e.event) for e in sim.events(FOLLOWER) if e.commit == first]
        assert together == [Executed, MessageSent, MessageSent, StateSet]
        # nothing is recorded while there is nothing new
        before = len(sim.events(FOLLOWER))
        sim.advance("1d")
        assert len(sim.events(FOLLOWER)) == before
        audit_all(sim.application.store)


@pytest.mark.parametrize("point", ["before_write", "after_write"])
def test_E2_a_crash_sends_nothing_twice(store_url: str, bank: Bank, point: Any) -> None:
    desk = Desk(bank)
    with Simulation(desk.jobs, url=store_url, start=START) as sim:
        bank.open_account("ada")
        crashes = 0
        while sim.task("letters").get_state("all") is None and crashes < 20:
            sim.crash_next(point)
            with pytest.raises(SimulatedCrash):
                sim.advance("1m")
            crashes += 1
            sim.restart()
            sim.advance("0s") if point == "after_write" else sim.advance("1m")
        sim.advance("1h")
        assert sim.task("letters").get_state("all") == ["welcome ada"]
        audit_all(sim.application.store)


def test_E2_a_failing_policy_holds_back_what_comes_behind_it(store_url: str, bank: Bank) -> None:
    desk = Desk(bank)
    desk.broken = True
    with Simulation(desk.jobs, url=store_url, start=START) as sim:
        bank.open_account("ada")
        bank.open_account("eve")
        sim.advance("10m")
        assert sim.task("accounts").status("follower").status == "retrying"
        desk.broken = False
        sim.advance("1m")
        assert sim.task("letters").get_state("all") == ["welcome ada", "welcome eve"]


def test_E2_many_events_are_followed_in_pages(store_url: str, bank: Bank) -> None:
    desk = Desk(bank)
    id = bank.open_account("ada")
    for amount in range(1, 231):
        bank.pay(id, amount)
    with Simulation(desk.jobs, url=store_url, start=START) as sim:
        sim.advance("1m")
        letters = sim.task("letters").get_state("all")
        assert letters == ["welcome ada", *(f"thanks for {n}" for n in range(1, 231))]
        assert sim.task("accounts").status("follower").execute_count == 3


def test_E2_it_follows_from_the_first_event_on_again_after_a_clear(
    store_url: str, bank: Bank
) -> None:
    desk = Desk(bank)
    with Simulation(desk.jobs, url=store_url, start=START) as sim:
        bank.open_account("ada")
        sim.advance("1s")
        sim.task("accounts").clear("follower")
    with Simulation(desk.jobs, url=store_url, start=START) as sim:
        sim.advance("1s")
        assert sim.task("letters").get_state("all") == ["welcome ada", "welcome ada"]


@pytest.mark.parametrize(
    ("application", "policy", "said"),
    [
        (object(), lambda ctx, event: None, "eventsourcing library"),
        (None, lambda ctx: None, "2 arguments"),
    ],
)
def test_E2_what_cannot_be_followed_is_refused(
    bank: Bank, application: Any, policy: Any, said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        Jobs().follow(bank if application is None else application, policy, name="accounts")


def test_E2_a_name_that_is_in_use_is_refused(bank: Bank) -> None:
    with pytest.raises(ValidationError, match="another job has this name"):
        Desk(bank).jobs.follow(bank, lambda ctx, event: None, name="letters")


def test_E2_a_worker_looks_for_what_an_application_records(shared_url: str, bank: Bank) -> None:
    desk = Desk(bank)
    with desk.jobs.open(shared_url, worker=True) as app:
        id = bank.open_account("ada")
        app.task("letters").send("all", "first", wait=True)
        bank.pay(id, 5)
        assert desk.thanked.wait(WAIT_S)
