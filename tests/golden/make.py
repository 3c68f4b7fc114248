"""Write golden records: what the log looks like today, to be read by every later version.

    python -m tests.golden.make

One file for each type of event (`events/Started.1.json`), and a few whole histories with the
instance that they fold to (`histories/order.1.json`). What is there already is never written again:
a released record is for ever. An event that gets a new field keeps its old file and gets another
one: add an example to `EXAMPLES`, under the next number.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from tests.support import Paid, Placed, Stage, order_task, scripted, staged, task_of
from wakelog import ExecutionError
from wakelog.core import events as e
from wakelog.core.instance import Instance
from wakelog.core.pool import events as p
from wakelog.ids import InstanceId
from wakelog.kinds import BEHAVIOURS
from wakelog.log.batches import digest_of, item_line, root_of
from wakelog.log.payloads import SAID, Salts
from wakelog.log.rebuild import GENESIS, Head, replayed
from wakelog.log.records import Meta, decode, encode
from wakelog.ports.records import StoredEvent
from wakelog.testing import SimulatedCrash

HERE = Path(__file__).parent
AT_US = 1_795_449_240_123_456
STREAM = "task:order:ö-17:a"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
META = Meta(AT_US, "5f0c1a2b3c4d5e6f1", "task:order:b@7", "c-1", "ann é", trace=TRACE)

LINES = (
    item_line("b3c1", '{"to":"ü@example.org"}', "tenant-a", "mail-17"),
    item_line("b3c2", "[1,2.5,null]", None, None),
    item_line("b3c3", "null", None, "mail-18"),
)
ENDED = (b'[3,17,250,1500,"b3c4",{"id":9}]', b"[0,4,1800,20]")

EXAMPLES: dict[str, e.Event] = {
    "Started.1": e.Started(kind="task", name="order", id="ö-17:a", input='{"x":1}'),
    "EventReceived.1": e.EventReceived(
        event_id="k-1", deferred=True, handle_at_us=AT_US + 1, payload='{"kind":"placed","n":"ü"}'
    ),
    "EventReceived.2": e.EventReceived(event_id="k-1", window=3, payload='{"n":1}'),
    "EventHandled.1": e.EventHandled(event_version=4),
    "StateSet.1": e.StateSet(schema_version=2, state='{"status":"pending"}'),
    "Scheduled.1": e.Scheduled(
        due_us=AT_US + 5, action="clear", by="operator", asked_us=AT_US - 5, reason="expired"
    ),
    "Scheduled.2": e.Scheduled(
        due_us=AT_US + 5, action="flush", by="policy", reason="max_wait", window=3
    ),
    "ScheduleCancelled.1": e.ScheduleCancelled(action="clear", by="operator"),
    "RunStarted.1": e.RunStarted(
        run=3,
        attempt=2,
        trigger="recovery",
        due_us=AT_US,
        late_us=7,
        worker="host:1:a",
        events=(4, 5),
    ),
    "StepCompleted.1": e.StepCompleted(run=3, step="mail", result='{"id":9}'),
    "MessageSent.1": e.MessageSent(to="task:invoice:1", topic="paid", payload="[1,2.5,null]"),
    "Executed.1": e.Executed(
        run=3, attempt=2, started_us=AT_US, duration_us=1_500_000, result='"ok"'
    ),
    "ExecutionFailed.1": e.ExecutionFailed(
        handler="on_event",
        error_type="LookupError",
        message="no such sku",
        traceback="Traceback …\n  line 2\n",
        run=3,
        attempt=2,
        will_retry=True,
        recovered=True,
        event_version=4,
        payload='{"kind":"paid"}',
    ),
    "RetryScheduled.1": e.RetryScheduled(run=3, attempt=3, due_us=AT_US + 9),
    "RetryExhausted.1": e.RetryExhausted(run=3, attempts=5, reason="lost"),
    "ExecutionLost.1": e.ExecutionLost(run=3, attempt=2, worker="host:1:a", reason="shutdown"),
    "Flushed.1": e.Flushed(events=(4, 5, 6), reason="max_events"),
    "Missed.1": e.Missed(due_us=AT_US, count=3, policy="once"),
    "Paused.1": e.Paused(reason="maintenance", by="policy"),
    "Resumed.1": e.Resumed(reason="done", by="policy"),
    "Stopped.1": e.Stopped(reason="enough", by="handler"),
    "DeadLettered.1": e.DeadLettered(
        event_version=4, reason="handler_failed", error_type="E", message="m", attempts=3
    ),
    "DeadLettered.2": e.DeadLettered(
        event_version=4,
        reason="flush_failed",
        error_type="E",
        message="m",
        attempts=3,
        events=(4, 5, 7),
    ),
    "Requeued.1": e.Requeued(event_version=4, dead=6),
    "Requeued.2": e.Requeued(event_version=4, dead=9, events=(4, 5, 7), window=2),
    "Discarded.1": e.Discarded(event_version=4, reason="a test"),
    "Discarded.2": e.Discarded(event_version=4, dead=9, events=(4, 5, 7)),
    "Returned.1": e.Returned(event_version=4, error_type="E", message="m"),
    "Returned.2": e.Returned(run=2, attempt=3, error_type="E", message="m"),
    "Cancelled.1": e.Cancelled(event_version=4, reason="too late"),
    "Parked.1": e.Parked(reason="unreadable", error_type="E", message="m"),
    "Cleared.1": e.Cleared(reason="done", by="handler", discarded=2),
    "Archived.1": e.Archived(upto_version=90, location="archive/1.zst"),
    "Erased.1": e.Erased(upto_version=90),
    "ExecutionFailed.2": e.ExecutionFailed(
        handler="execute", error_type="E", message="m", run=1, attempt=1, item="#3.17"
    ),
    "ExecutionFailed.3": e.ExecutionFailed(
        handler="execute", error_type="E", message="m", run=1, where="/srv/orders.py:41 in charge"
    ),
    "Paused.2": e.Paused(reason="maintenance", item="2"),
    "EventsReceived.1": p.EventsReceived(
        count=3,
        root=root_of(map(digest_of, LINES)),
        lines=b"\n".join(LINES),
        lanes=((3, 17, 2, 5, 9, "acme"), (0, 4, 1, 0, 0, None)),
        delayed=((4, AT_US + 5, -1),),
    ),
    "RunsStarted.1": p.RunsStarted(
        ranges=((3, 16, 20), (4, 0, 1)), without=((3, 18),), items=((0, 4, 2),), worker="host:1:a"
    ),
    "RunsStarted.2": p.RunsStarted(trigger="empty", worker="host:1:a"),
    "RunsExecuted.1": p.RunsExecuted(
        run=7, count=2, root=root_of(map(digest_of, ENDED)), lines=b"\n".join(ENDED)
    ),
    "RunsLost.1": p.RunsLost(run=7, items=((3, 17), (3, 19)), worker="host:1:a"),
    "RunsReturned.1": p.RunsReturned(run=7, items=((3, 20),), reason="overstay"),
    "EventsCancelled.1": p.EventsCancelled(items=("#3.17", "#0.4"), reason="too late"),
    "EventsRequeued.1": p.EventsRequeued(items=("#3.17",), reason="it is mended"),
    "EventsDiscarded.1": p.EventsDiscarded(items=("#3.17",), reason="a test", by="policy"),
    "PrioritiesChanged.1": p.PrioritiesChanged(items=("#3.17",), reason="urgent", priority=-3),
}


def order(job: Stage) -> None:
    """An order that is reminded of, paid, cleared, and placed again."""
    job.send(Placed(), event_id="k-1", actor="ann", correlation_id="c-1")
    job.sim.advance("2h")
    job.send(Paid(), delay="10m")
    job.sim.advance("1h")
    job.clear(reason="shipped", actor="bob")
    job.send(Placed())


def rough(job: Stage) -> None:
    """Refused and failing handlers, lost runs, deferred and dead events, a delayed clear."""
    job.send({"set_state": {"n": 1, "ü": [None, 2.5]}, "schedule": "5m", "emit_to": None})
    for refused in ({"raise": "no"}, {"schedule": "soon"}):
        with suppress(ExecutionError):
            job.send(refused)
    job.sim.crash_next("after_write")
    with suppress(SimulatedCrash):
        job.sim.advance("5m")
    job.sim.restart()
    job.send({"set_state": "while it ran"}, event_id="late")
    job.send({"raise": "dead"}, delay=0)
    job.sim.advance("1h")
    job.trigger(actor="bob")
    job.send({"clear_state": None, "schedule": "9h"})
    job.clear(after="1d", reason="expired")
    job.sim.advance("12h")
    job.send({"set_state": 7}, delay="3d")


def execute(ctx: Any) -> None:
    """Fails when it is triggered."""
    if ctx.trigger == "manual":
        raise LookupError("gone")
    ctx.emit("ran", {"run": ctx.run_count, "attempt": ctx.attempt})


HISTORIES: dict[str, tuple[Callable[[], Any], Callable[[Stage], None]]] = {
    "order.1": (order_task, order),
    "rough.1": (lambda: task_of(_scripted, execute=execute), rough),
}


def _scripted(ctx: Any, event: dict[str, Any]) -> None:
    if event.pop("emit_to", 0) is None:
        ctx.emit("begun", [ctx.id])
    scripted(ctx, event)


def folded(instance: Instance) -> dict[str, Any]:
    """An instance as JSON data."""
    fields = {**asdict(instance), "deferred": [*instance.deferred]}
    data: dict[str, Any] = json.loads(msgspec.json.encode(fields))
    return data


def main() -> None:
    """Write what is not there yet."""
    for name, event in EXAMPLES.items():
        [record], _ = encode(STREAM, 41, "ab" * 32, [event], META, Salts(random.Random(name)))
        example = {
            "stream": record.stream,
            "version": record.version,
            "topic": record.topic,
            "state": record.state.decode(),
            "event": said_by(event),
        }
        _write(HERE / "events" / f"{name}.json", example)
    for name, (make, tell) in HISTORIES.items():
        job = staged(make(), "memory://")
        with job.sim:
            tell(job)
            _write(HERE / "histories" / f"{name}.json", _history(job))


def said_by(event: e.Event) -> dict[str, Any]:
    """All fields of an event; what is not on its first line, at the end and as texts."""
    apart = [name for name in (event.PAYLOAD, *SAID[type(event)]) if name]
    said = {name: getattr(event, name) for name in apart}
    if isinstance(event, p.Batch):
        said["lines"] = event.lines.decode()
    own: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    return {name: value for name, value in own.items() if name not in said} | said


def _history(job: Stage) -> dict[str, Any]:
    stream = "task:job:a"
    records = _without_paths(job.sim.application.store.events(stream))
    head = Head(Instance(InstanceId.parse(stream)), GENESIS)
    told = []
    for after, recorded in replayed(head, records):
        head = after
        record = records[recorded.version - 1]
        told.append(
            {
                "topic": record.topic,
                "state": record.state.decode(),
                "status": BEHAVIOURS["task"].status(head.instance),
            }
        )
    return {"stream": stream, "records": told, "hash": head.hash, "instance": folded(head.instance)}


def _without_paths(records: Sequence[StoredEvent]) -> list[StoredEvent]:
    """The same history, chained anew, without the tracebacks of the machine that wrote it."""
    rewritten: list[StoredEvent] = []
    prev, salts = GENESIS, Salts(random.Random(0))
    for stored in records:
        said = decode(stored)
        event = said.event
        if isinstance(event, e.ExecutionFailed):
            event = replace(event, traceback="Traceback …\n", where="")
        meta = Meta(said.at_us, said.commit, said.cause, said.correlation, said.actor)
        [record], prev = encode(stored.stream, stored.version - 1, prev, [event], meta, salts)
        rewritten.append(record)
    return rewritten


def _write(path: Path, data: dict[str, Any]) -> None:
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print("wrote", path.relative_to(HERE))


if __name__ == "__main__":
    main()
