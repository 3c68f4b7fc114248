"""Messages for the outside, and followers that read them in order, at least once (I3)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import START, WAIT_S
from wakelog import (
    CloudEvent,
    InvalidIdError,
    Jobs,
    Position,
    Task,
    TaskContext,
    ValidationError,
    WaitTimeoutError,
    WorkerPool,
)
from wakelog.testing import SimulatedCrash, Simulation


class Shop:
    """Jobs that emit, and what their followers have seen."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.broken_at: Any = None
        self.came = threading.Event()
        desk: Task[int, list[Any]] = Task(state=int, event=list[Any])
        post: WorkerPool[str] = WorkerPool(event=str)

        @desk.on_event
        def said(ctx: TaskContext[int], event: list[Any]) -> None:
            ctx.emit(*event)

        post.execute(lambda ctx, letter: ctx.emit("mailed", letter))
        self.jobs = Jobs(desk=desk, post=post)

    def follow(self, *topics: str, is_async: bool = False) -> Jobs:
        """With a follower that workers call."""

        def handle(ctx: TaskContext[int], message: CloudEvent) -> None:
            if message.data == self.broken_at:
                raise LookupError(message.data)
            self.seen.append(message.data)
            self.came.set()

        async def handle_async(ctx: TaskContext[int], message: CloudEvent) -> None:
            handle(ctx, message)

        self.jobs.follower("mailer", topics=topics)(handle_async if is_async else handle)
        return self.jobs


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def sim(store_url: str, shop: Shop) -> Iterator[Simulation]:
    with Simulation(shop.jobs, url=store_url, start=START) as made:
        yield made


def emit(sim: Any, topic: str, *payloads: Any, id: str = "d") -> None:
    for payload in payloads:
        sim.task("desk").send(id, [topic, payload])


def data(sim: Simulation, name: str = "reader", **options: Any) -> list[Any]:
    return [event.data for event in sim.follow(name, wait=False, **options)]


def test_I3_a_follower_gets_what_it_has_not_handled(sim: Simulation) -> None:
    emit(sim, "paid", 1, 2)
    assert data(sim) == [1, 2]
    assert data(sim) == []
    emit(sim, "paid", 3)
    assert data(sim) == [3]
    assert data(sim, "another") == [1, 2, 3]


def test_I3_a_message_is_handled_when_the_next_one_is_asked_for(sim: Simulation) -> None:
    emit(sim, "paid", 1, 2, 3)
    with sim.follow("reader", wait=False) as events:
        assert [next(events).data, next(events).data] == [1, 2]
    assert data(sim) == [2, 3]


def test_I3_topics_are_names_or_beginnings(sim: Simulation) -> None:
    emit(sim, "paid", 1)
    emit(sim, "order.new", 2)
    emit(sim, "order.old", 3)
    assert data(sim, "a", topics=["paid"]) == [1]
    assert data(sim, "b", topics=["order.*"]) == [2, 3]
    assert data(sim, "c", topics=["order.old", "pai*"]) == [1, 3]
    assert data(sim, "d", topics=["order"]) == []


def test_I3_the_envelope_is_that_of_cloud_events(sim: Simulation) -> None:
    sim.task("desk").send("d ü", ["paid", {"sum": 1.5}], correlation_id="cart-9")
    [event] = sim.follow("reader", wait=False)
    assert json.loads(event.to_json()) == event.to_dict() == {
        "specversion": "1.0",
        "id": "task:desk:d ü@3",
        "source": "task:desk:d%20%C3%BC",
        "type": "paid",
        "time": "2026-01-01T00:00:00Z",
        "subject": "task:desk:d ü",
        "datacontenttype": "application/json",
        "data": {"sum": 1.5},
        "correlationid": "cart-9",
    }  # fmt: skip


def test_I3_pools_emit_too(sim: Simulation) -> None:
    sim.worker_pool("post").enqueue("dear")
    sim.advance("1s")
    [event] = sim.follow("reader", wait=False)
    assert (event.type, event.data) == ("mailed", "dear")
    assert event.subject == "workerPool:post:#1.1"


def test_I3_messages_to_jobs_are_not_for_the_outside(store_url: str) -> None:
    one: Task[int, int] = Task(state=int, event=int)
    two: Task[int, int] = Task(state=int, event=int)
    one.on_event(lambda ctx, event: ctx.send("two", "x", event))
    two.on_event(lambda ctx, event: ctx.emit("got", event))
    with Simulation(Jobs(one=one, two=two), url=store_url) as sim:
        sim.task("one").send("x", 1)
        sim.advance("1s")
        assert [(each.type, each.data) for each in sim.follow("r", wait=False)] == [("got", 1)]


def test_I3_many_are_read_in_pages(sim: Simulation) -> None:
    numbers = list(range(1_203))
    for first in range(0, len(numbers), 100):
        emit(sim, "paid", *numbers[first : first + 100], id=str(first))
    assert data(sim) == numbers


def test_I3_positions_are_opaque_and_can_be_kept_as_text(sim: Simulation) -> None:
    before = sim.position()
    emit(sim, "paid", 1)
    after = sim.position()
    assert before < after
    assert Position.parse(str(after)) == after
    with pytest.raises(ValidationError, match="must begin with"):
        Position.parse("17")


def test_I3_until_waits_for_a_follower(sim: Simulation) -> None:
    emit(sim, "paid", 1)
    with pytest.raises(WaitTimeoutError):
        sim.until(sim.position(), "reader", timeout="1s")
    data(sim)
    sim.until(sim.position(), "reader", timeout="1s")


@pytest.mark.parametrize("name", ["", "a:b", 5])
def test_I3_a_name_that_is_none_is_refused(sim: Simulation, name: Any) -> None:
    with pytest.raises(InvalidIdError):
        sim.follow(name)


@pytest.mark.parametrize("topics", ["paid", [""], [5]])
def test_I3_topics_that_are_none_are_refused(sim: Simulation, topics: Any) -> None:
    with pytest.raises(ValidationError, match="list of topics"):
        sim.follow("reader", topics=topics)


# -- called by workers -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_I3_workers_call_a_follower_in_order(shop: Shop, store_url: str, is_async: bool) -> None:
    with Simulation(shop.follow("paid", is_async=is_async), url=store_url) as sim:
        emit(sim, "paid", 1, 2)
        emit(sim, "other", 8)
        sim.advance("1s")
        emit(sim, "paid", 3)
        sim.advance("1s")
        assert shop.seen == [1, 2, 3]
        sim.until(sim.position(), "mailer", timeout="1s")
        before = len(sim.events("task:mailer:follower"))
        emit(sim, "other", 9)
        sim.advance("1h")
        assert len(sim.events("task:mailer:follower")) == before


def test_I3_one_that_fails_holds_back_those_behind_it_alone(
    shop: Shop, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.broken_at = 2
    with Simulation(shop.follow(), url=store_url) as sim:
        emit(sim, "paid", 1, 2, 3)
        sim.advance("10m")
        assert shop.seen == [1]
        assert sim.task("mailer").status("follower").status == "retrying"
        assert "could not be handled: it comes again at once" in caplog.text
        with pytest.raises(WaitTimeoutError):
            sim.until(sim.position(), "mailer", timeout="1s")
        shop.broken_at = None
        sim.advance("1m")
        assert shop.seen == [1, 2, 3]


def test_I3_after_a_crash_it_is_called_again(shop: Shop, store_url: str) -> None:
    with Simulation(shop.follow(), url=store_url) as sim:
        emit(sim, "paid", 1)
        for _ in range(30):
            if shop.seen:
                break
            sim.crash_next("before_write")
            with pytest.raises(SimulatedCrash):
                sim.advance("1s")
            sim.restart()
            sim.advance("0s")
        sim.advance("1m")
        assert set(shop.seen) == {1}


def test_I3_a_live_worker_hears_of_a_message(shop: Shop, shared_url: str) -> None:
    with shop.follow().open(shared_url, worker=True) as app:
        emit(app, "paid", 1)
        assert shop.came.wait(WAIT_S)
        app.until(app.position(), "mailer", timeout=WAIT_S)


def test_I3_an_iterator_waits_for_another_process(shop: Shop, shared_url: str) -> None:
    with (
        shop.jobs.open(shared_url) as here,
        shop.jobs.open(shared_url) as there,
        there.follow("reader") as events,
    ):
        emit(here, "paid", 1)
        assert next(events).data == 1
        later = threading.Thread(target=emit, args=(here, "paid", 2))
        later.start()
        assert next(events).data == 2
        later.join()
