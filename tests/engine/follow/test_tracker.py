"""A tracker is told what happens to jobs: at least once, in order, off every request (A8)."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support import START, WAIT_S
from wakelog import Continuous, Debounce, Jobs, Retry, Task, ValidationError, WorkerPool
from wakelog.testing import SimulatedCrash, Simulation
from wakelog_adapters.http_tracker import HttpTracker

SHORT = ["job.started", "task.started", "task.eventReceived", "job.terminated", "task.cleared"]
"""What a life is that its first event ends."""


class Endpoint:
    """An HTTP server that remembers what was posted; its first answers are errors."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.refusals: list[int] = []
        self.silent_until: threading.Event | None = None
        """The first answer waits for it, and what was posted is forgotten."""
        self.sizes: list[int] = []
        self.came = threading.Event()
        self.url = ""
        self.moved_to: str | None = None
        self.asked = 0

    def take(self, headers: Any, body: bytes) -> int:
        if self.refusals:
            return self.refusals.pop(0)
        if self.silent_until is not None:
            ends, self.silent_until = self.silent_until, None
            ends.wait(WAIT_S)
            return 204
        events = json.loads(body)["events"]
        self.headers = dict(headers)
        self.events += events
        self.sizes.append(len(events))
        self.came.set()
        return 204

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(Endpoint()) as endpoint:
        yield endpoint


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.asked += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(endpoint.take(self.headers, body))
            if endpoint.moved_to is not None:
                self.send_header("Location", endpoint.moved_to)
            self.end_headers()

        def do_GET(self) -> None:
            endpoint.asked += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/ingest"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def town() -> dict[str, Any]:
    """A job of each type."""
    order: Task[int, str] = Task(state=int, event=str, retry=Retry(max_attempts=2, jitter=0))
    pulse: Continuous[int] = Continuous(state=int, every="1h")
    batch: Debounce[int, int] = Debounce(event=int, flush_after="1m")
    mails: WorkerPool[str] = WorkerPool(event=str, retry=Retry(max_attempts=2, jitter=0))

    @order.on_event
    def said(ctx: Any, event: str) -> None:
        ctx.set_state(1)
        ctx.clear("over") if event == "clear" else ctx.schedule("5m")

    @order.execute
    def broken(ctx: Any) -> None:
        raise LookupError("no way")

    pulse.execute(lambda ctx: None)
    batch.execute(lambda ctx: None)

    @mails.execute
    def mail(ctx: Any, event: str) -> None:
        if event == "bad":
            raise ValueError("no address")

    return {"order": order, "pulse": pulse, "batch": batch, "mails": mails}


def tracked(endpoint: Endpoint, **options: Any) -> Jobs:
    jobs = Jobs(**town())
    jobs.track(HttpTracker(endpoint.url, **options), env="test", service_key="shop")
    return jobs


def test_A8_what_happens_to_each_type_of_job_is_told(endpoint: Endpoint, store_url: str) -> None:
    with Simulation(tracked(endpoint), url=store_url, start=START) as sim:
        sim.task("order").send("o", "go")
        sim.continuous("pulse").start("p", 1, wait=False)
        sim.debounce("batch").add("b", 1, event_id="e-1")
        sim.debounce("batch").add("b", 2)
        sim.worker_pool("mails").enqueue_many(["good", "bad"])
        sim.advance("10m")
        sim.continuous("pulse").stop("p", reason="enough")
        sim.debounce("batch").add("b", 3)
        sim.debounce("batch").clear("b")
        sim.task("order").send("x", "clear")
        sim.worker_pool("mails").pause()
        sim.worker_pool("mails").resume()
        sim.advance("1s")
        sim.until(sim.position(), "tracker", timeout="1s")
        assert sim.pending("tracker") == 0
    found = Counter(endpoint.types)
    expected = {
        "job.started": 4, "continuous.started": 1, "debounce.started": 1, "task.scheduled": 1,
        "job.failed": 2, "job.retryExhausted": 2, "job.executed": 2, "continuous.scheduled": 2,
        "continuous.stopped": 1, "debounce.eventReceived": 3, "debounce.flushing": 1,
        "debounce.flushed": 1, "debounce.cleared": 1, "job.terminated": 2,
        "workerPool.enqueued": 2, "workerPool.processing": 3, "workerPool.completed": 1,
        "workerPool.failed": 2, "workerPool.deadLettered": 1,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert len({event["id"] for event in endpoint.events}) == len(endpoint.events)


def test_A8_an_event_has_what_the_seeds_name(endpoint: Endpoint, store_url: str) -> None:
    jobs = tracked(endpoint, token="s3cret", headers={"X-Team": "orders"})
    with Simulation(jobs, url=store_url, start=START) as sim:
        sim.task("order").send("o", "go")
        sim.advance("1s")
    first, _, _, second = endpoint.events
    assert first == {
        "id": "task:order:o@1",
        "type": "job.started",
        "jobType": "task",
        "jobName": "order",
        "instanceId": "o",
        "timestamp": int(START.timestamp() * 1000),
        "env": "test",
        "serviceKey": "shop",
    }
    assert (second["type"], second["nextRunAt"] - second["timestamp"]) == (
        "task.scheduled",
        300_000,
    )
    assert endpoint.headers["Authorization"] == "Bearer s3cret"
    assert endpoint.headers["X-Team"] == "orders"
    assert "s3cret" not in repr(HttpTracker(endpoint.url, token="s3cret"))


def test_A8_it_does_not_track_its_own_runs(endpoint: Endpoint, store_url: str) -> None:
    jobs = tracked(endpoint)
    jobs.track(HttpTracker(endpoint.url), name="second")
    with Simulation(jobs, url=store_url, start=START) as sim:
        sim.task("order").send("x", "clear")
        sim.advance("1d")
        assert len(sim.events("task:tracker:follower")) < 10
    assert Counter(endpoint.types) == dict.fromkeys(SHORT, 2)


def test_A8_what_is_refused_comes_again_in_its_order(endpoint: Endpoint, store_url: str) -> None:
    endpoint.refusals = [500, 503]
    with Simulation(tracked(endpoint), url=store_url, start=START) as sim:
        sim.task("order").send("x", "clear")
        sim.advance("1s")
        assert (endpoint.events, sim.pending("tracker")) == ([], 5)
        sim.advance("1m")
        assert endpoint.types == SHORT


def test_A8_what_is_not_answered_in_time_comes_again(endpoint: Endpoint, store_url: str) -> None:
    ends = endpoint.silent_until = threading.Event()
    with Simulation(tracked(endpoint, timeout_s=0.1), url=store_url, start=START) as sim:
        sim.task("order").send("x", "clear")
        sim.advance("10s")
        ends.set()
        assert endpoint.types == SHORT
        assert sim.pending("tracker") == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_A8_a_redirect_is_not_followed_and_loses_nothing(status: int) -> None:
    """It would be a GET without the events, and take the token elsewhere."""
    with serving(Endpoint()) as endpoint, serving(Endpoint()) as other:
        endpoint.refusals, endpoint.moved_to = [status], other.url
        tracker = HttpTracker(endpoint.url, token="s3cret")
        with pytest.raises(ConnectionError, match=f"answered {status}: give the address"):
            tracker.publish([{"id": "1"}])
        tracker.publish([{"id": "1"}])
        assert (endpoint.events, other.asked) == ([{"id": "1"}], 0)


def test_A8_a_tracker_that_is_away_holds_up_nothing(store_url: str) -> None:
    with serving(Endpoint()) as endpoint:
        jobs = tracked(endpoint)
    with Simulation(jobs, url=store_url, start=START) as sim:
        sim.task("order").send("x", "go")
        sim.advance("6m")
        assert sim.task("order").status("x").execute_count == 1
        assert sim.task("tracker").status("follower").status == "retrying"


def test_A8_many_events_are_posted_in_batches(endpoint: Endpoint, store_url: str) -> None:
    with Simulation(tracked(endpoint), url=store_url, start=START) as sim:
        sim.worker_pool("mails").enqueue_many(["good"] * 1_200)
        sim.advance("1m")
    assert Counter(endpoint.types) == {
        "workerPool.enqueued": 1_200,
        "workerPool.processing": 1_200,
        "workerPool.completed": 1_200,
    }
    assert max(endpoint.sizes) == 500


def test_A8_a_crash_loses_nothing(endpoint: Endpoint, store_url: str) -> None:
    with Simulation(tracked(endpoint), url=store_url, start=START) as sim:
        sim.task("order").send("x", "clear")
        for _ in range(30):
            if endpoint.events:
                break
            sim.crash_next("before_write")
            with pytest.raises(SimulatedCrash):
                sim.advance("1s")
            sim.restart()
            sim.advance("0s")
        sim.advance("1m")
    assert set(endpoint.types) == {*SHORT}


def test_A8_any_publisher_will_do(store_url: str) -> None:
    class Broker:
        def __init__(self) -> None:
            self.batches: list[Sequence[Any]] = []

        def publish(self, batch: Sequence[Any]) -> None:
            self.batches.append(batch)

    broker, jobs = Broker(), Jobs(**town())
    jobs.track(broker)
    with Simulation(jobs, url=store_url, start=START) as sim:
        sim.task("order").send("x", "clear")
        sim.advance("1s")
    assert [[each["type"] for each in batch] for batch in broker.batches] == [SHORT]


def test_A8_a_live_worker_posts(endpoint: Endpoint, shared_url: str) -> None:
    with tracked(endpoint).open(shared_url, worker=True) as app:
        app.task("order").send("x", "clear")
        assert endpoint.came.wait(WAIT_S)


@pytest.mark.parametrize(
    "make",
    [lambda: HttpTracker("ftp://x"), lambda: Jobs().track(5)],  # type: ignore[arg-type]
)
def test_A8_what_cannot_be_told_to_is_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()
