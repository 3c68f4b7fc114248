"""Messages between jobs: recorded with the handler's outcome, delivered after it, once (I2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, PositiveInt

from tests.auditing import audit_all
from tests.support import START
from wakelog import (
    Continuous,
    Debounce,
    ExecutionError,
    InvalidIdError,
    Jobs,
    Retry,
    Task,
    UnknownJobError,
    ValidationError,
    WorkerPool,
)
from wakelog.core.events import DeadLettered, Discarded, EventReceived, MessageSent
from wakelog.testing import Simulation


class Charge(BaseModel):
    """What a till takes."""

    amount: PositiveInt


class Town:
    """Jobs of every type. The shop does what its events say; all tell what came to them."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.till_is_broken = False
        shop: Task[str, list[list[Any]]] = Task(state=str, event=list[list[Any]])
        till: Task[int, Charge] = Task(
            state=int, event=Charge, max_waiting=3, retry=Retry(max_attempts=2, jitter=0)
        )
        self.till = till
        clock: Continuous[str] = Continuous(state=str, every="1h")
        crate: Debounce[int, int] = Debounce(event=int, flush_after="1m")
        post: WorkerPool[str] = WorkerPool(event=str, fair=lambda letter: letter[:1])

        @shop.on_event
        def asked(ctx: Any, event: list[list[Any]]) -> None:
            for call, *arguments in event:
                if call == "raise":
                    raise ValueError(*arguments)
                getattr(ctx, call)(*arguments)

        @till.on_event
        def charged(ctx: Any, event: Charge) -> None:
            if self.till_is_broken:
                raise LookupError("no change")
            self.seen.append(event.amount)
            ctx.set_state((ctx.state or 0) + event.amount)

        clock.execute(lambda ctx: self.seen.append(f"tick {ctx.state}"))
        crate.execute(lambda ctx: self.seen.append(ctx.events))
        post.execute(lambda ctx, letter: self.seen.append(letter))
        self.jobs = Jobs(shop=shop, till=till, clock=clock, crate=crate, post=post)


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def sim(store_url: str, town: Town) -> Iterator[Simulation]:
    """A simulation of the town; at the end everything must add up."""
    with Simulation(town.jobs, url=store_url, start=START) as made:
        yield made
        audit_all(made.application.store)


def ask(sim: Simulation, *calls: list[Any], id: str = "s") -> None:
    sim.task("shop").send(id, [*calls])


def charge(amount: int, id: str = "t") -> list[Any]:
    return ["send", "till", id, {"amount": amount}]


def found(sim: Simulation, kind: type[Any], id: str) -> list[Any]:
    return [each.event for each in sim.events(id) if isinstance(each.event, kind)]


def outbox(sim: Simulation, sender: str = "task:shop:s") -> list[tuple[str, str | None]]:
    rows = sim.application.store.messages_of([sender], 100)
    return [(row.target, row.held) for row in rows]


def test_I2_each_type_of_job_gets_what_it_is_sent(sim: Simulation, town: Town) -> None:
    ask(
        sim,
        charge(3),
        ["send", "crate", "c", 7],
        ["start", "clock", "k", "on"],
        ["enqueue", "post", "dear"],
    )
    assert town.seen == []
    sim.advance("1m")
    assert sorted(map(str, town.seen)) == ["3", "[7]", "dear", "tick on"]
    assert sim.task("till").get_state("t") == 3
    assert outbox(sim) == []


def test_I2_a_message_is_recorded_with_the_outcome_and_names_its_cause(sim: Simulation) -> None:
    sim.task("shop").send("s", [charge(3)], correlation_id="cart-9")
    [sent] = found(sim, MessageSent, "task:shop:s")
    assert (sent.to, sent.payload) == ("task:till:t", '{"amount":3}')
    sim.advance(0)
    accepted = sim.events("task:till:t")[1]
    assert isinstance(accepted.event, EventReceived)
    assert accepted.event.deferred
    version = next(e.version for e in sim.events("task:shop:s") if e.event == sent)
    assert accepted.cause == f"task:shop:s@{version}"
    assert (accepted.actor, accepted.correlation) == ("task:shop:s", "cart-9")


def test_I2_U1_a_handler_that_fails_sends_nothing(sim: Simulation, town: Town) -> None:
    with pytest.raises(ExecutionError):
        ask(sim, charge(3), ["raise", "shop is closed"])
    sim.advance("1m")
    assert (town.seen, outbox(sim)) == ([], [])


@pytest.mark.parametrize(
    ("call", "raised", "said"),
    [
        (["send", "till", "t", {"amount": -1}], ValidationError, "amount"),
        (["send", "bank", "t", 1], UnknownJobError, "bank"),
        (["send", "till", "", {"amount": 1}], InvalidIdError, "1 to 255 characters"),
        (["send", "clock", "k", "on"], ValidationError, "ctx.start"),
        (["start", "till", "t", 1], ValidationError, "ctx.send"),
        (["enqueue", "crate", 1], ValidationError, "ctx.send"),
        (["send", 5, "t", 1], ValidationError, "a definition, or its name"),
        (["start", "clock", "k", 5], ValidationError, "string"),
        (["enqueue", "post", ""], ValidationError, "1 to 255"),
    ],
)
def test_I2_what_does_not_fit_is_refused_at_the_call(
    sim: Simulation, call: list[Any], raised: type[Exception], said: str
) -> None:
    with pytest.raises(ExecutionError) as refused:
        ask(sim, call)
    assert isinstance(refused.value.__cause__, raised)
    assert said in str(refused.value.__cause__)
    assert outbox(sim) == []


def test_I2_T8_a_clear_keeps_what_was_sent(sim: Simulation, town: Town) -> None:
    ask(sim, charge(3), ["clear"])
    sim.advance(0)
    assert town.seen == [3]


def test_I2_those_of_a_pair_come_in_order(sim: Simulation, town: Town) -> None:
    for amounts in ((1, 2), (3,)):
        ask(sim, *map(charge, amounts))
    sim.advance(0)
    assert town.seen == [1, 2, 3]


def test_I2_a_paused_job_holds_back_its_messages_and_no_others(sim: Simulation, town: Town) -> None:
    sim.pause("till")
    ask(sim, charge(1), charge(2), ["enqueue", "post", "dear"])
    sim.advance("5s")
    assert town.seen == ["dear"]
    assert outbox(sim) == [("task:till:t", "task:till is paused"), ("task:till:t", None)]
    sim.resume("till")
    sim.advance("5s")
    assert town.seen == ["dear", 1, 2]


def test_I2_a_full_target_holds_back_what_comes_next(sim: Simulation, town: Town) -> None:
    sim.task("till").send("t", Charge(amount=9))
    sim.task("till").pause("t")
    ask(sim, *map(charge, (1, 2, 3, 4, 5)))
    sim.advance("5s")
    held = [why for _, why in outbox(sim)]
    assert len(held) == 2
    assert held[0] is not None
    assert "raise max_waiting" in held[0]
    sim.task("till").resume("t")
    sim.advance("5s")
    assert town.seen == [9, 1, 2, 3, 4, 5]
    assert outbox(sim) == []


def test_I2_K4_what_this_code_cannot_read_waits_for_code_that_can(
    sim: Simulation, town: Town, store_url: str
) -> None:
    ask(sim, charge(1))
    narrow: Any = Task(state=int, event=str)
    narrow.on_event(lambda ctx, event: town.seen.append("narrow"))
    shop: Any = Task(state=str, event=list[Any])
    shop.on_event(lambda ctx, event: None)
    with Simulation(Jobs(shop=shop, till=narrow), url=store_url, start=START) as older:
        older.advance("10s")
        [(_, held)] = outbox(older)
        assert held == "this code cannot read it: ValidationError"
    sim.advance("20s")
    assert town.seen == [1]


def test_I2_A9_a_failing_target_retries_and_dead_letters_and_delivery_goes_on(
    sim: Simulation, town: Town
) -> None:
    town.till_is_broken = True
    ask(sim, charge(1))
    sim.advance("1h")
    [dead] = found(sim, DeadLettered, "task:till:t")
    assert (dead.attempts, dead.error_type) == (2, "LookupError")
    town.till_is_broken = False
    ask(sim, charge(2))
    sim.advance("1h")
    assert town.seen == [2]


def test_I2_a_start_of_what_goes_on_does_nothing_and_is_taken_once(
    sim: Simulation, town: Town
) -> None:
    sim.continuous("clock").start("k", "first", wait=False)
    ask(sim, ["start", "clock", "k", "second"])
    sim.advance("1s")
    assert sim.continuous("clock").get_state("k") == "first"
    assert outbox(sim) == []


def test_I2_A9_what_its_target_refuses_for_good_is_a_dead_letter_of_the_sender(
    sim: Simulation, town: Town, store_url: str
) -> None:
    # given a pool whose rule of sharing has become stricter
    ask(sim, ["enqueue", "post", "dear"], charge(1))
    strict: Any = WorkerPool(event=str, fair=lambda letter: "")
    strict.execute(lambda ctx, letter: None)
    shop = sim.application.registry.find("shop", "task")
    with Simulation(
        Jobs(shop=shop.with_resources(None), post=strict, till=town.till), url=store_url,
        start=START,
    ) as stricter:  # fmt: skip
        stricter.advance("10s")
    # then it is a dead letter, and what went elsewhere was delivered
    [letter] = sim.task("shop").dead_letters("s")
    assert (letter.reason, letter.payload, letter.error_type) == (
        "refused",
        "dear",
        "ValidationError",
    )
    assert (outbox(sim), town.seen) == ([], [1])
    # when it is requeued it is sent again; and what is discarded is not
    sim.task("shop").requeue("s", letter.event)
    sim.advance("1s")
    assert town.seen == [1, "dear"]
    assert sim.task("shop").dead_letters("s") == []
    [again] = found(sim, Discarded, "task:shop:s")
    assert again.reason == "sent again"


def test_I2_a_pool_sends_with_the_outcome_of_its_event(store_url: str) -> None:
    seen: list[str] = []
    mail: WorkerPool[str] = WorkerPool(event=str, concurrency=2)
    desk: Task[int, str] = Task(state=int, event=str)

    @mail.execute
    def sent(ctx: Any, event: str) -> None:
        ctx.send(desk, event, f"{event} went out")
        if event == "bad":
            raise ValueError("no address")

    desk.on_event(lambda ctx, event: seen.append(event))
    with Simulation(Jobs(mail=mail, desk=desk), url=store_url) as sim:
        sim.worker_pool("mail").enqueue_many(["a", "bad", "b"])
        sim.advance("1s")
        audit_all(sim.application.store)
    assert sorted(seen) == ["a went out", "b went out"]


def test_I2_a_cycle_goes_round_and_ends(store_url: str) -> None:
    one: Task[int, int] = Task(state=int, event=int)
    two: Task[int, int] = Task(state=int, event=int)

    def round_to(other: str) -> Any:
        def turn(ctx: Any, event: int) -> None:
            ctx.set_state(event)
            if event:
                ctx.send(other, ctx.id, event - 1)

        return turn

    one.on_event(round_to("two"))
    two.on_event(round_to("one"))
    with Simulation(Jobs(one=one, two=two), url=store_url) as sim:
        sim.task("one").send("x", 10)
        sim.run_until_idle()
        assert (sim.task("one").get_state("x"), sim.task("two").get_state("x")) == (0, 1)
        audit_all(sim.application.store)


def test_I2_an_instance_may_send_to_itself(store_url: str) -> None:
    count: Task[int, int] = Task(state=int, event=int)

    @count.on_event
    def down(ctx: Any, event: int) -> None:
        ctx.set_state(event)
        if event:
            ctx.send(count, ctx.id, event - 1)

    with Simulation(Jobs(count=count), url=store_url) as sim:
        sim.task("count").send("x", 3)
        sim.run_until_idle()
        assert sim.task("count").get_state("x") == 0


def test_I2_what_is_held_back_does_not_hold_up_messages_to_others(
    sim: Simulation, town: Town
) -> None:
    sim.pause("till")
    for _ in range(13):
        ask(sim, *[charge(1)] * 100)
    ask(sim, ["enqueue", "post", "dear"])
    sim.advance("5s")
    assert town.seen == ["dear"]


def test_I2_senders_with_the_longest_ids_are_told_apart(store_url: str) -> None:
    seen: list[str] = []
    post: WorkerPool[str] = WorkerPool(event=str)
    post.execute(lambda ctx, letter: seen.append(letter))
    shop: Task[int, str] = Task(state=int, event=str)
    shop.on_event(lambda ctx, event: ctx.enqueue("post", event))
    with Simulation(Jobs(post=post, a=shop, b=shop), url=store_url) as sim:
        for name in ("a", "b"):
            sim.task(name).send("x" * 255, f"from {name}")
        sim.advance("1s")
        audit_all(sim.application.store)
    assert sorted(seen) == ["from a", "from b"]
