"""What something else has changed in a database is never believed: it is told, and set aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from tests.adapters.cli.command_line import CommandLine
from tests.support import Ctx, task_of
from tests.support_stores import direct_access
from wakelog import IntegrityError, Jobs, Retry, StoreUnavailableError, UnreadableEventError
from wakelog.errors import HistoryError
from wakelog.settings import Settings
from wakelog.testing import Simulation

STREAM = "task:job:a"
ENDS = "the log ends here"
OTHER_HASH = "hash that its status row has"
UNSEEN = "broken at version 11"


def add(ctx: Ctx, event: int) -> None:
    ctx.set_state((ctx.state or 0) + event)
    ctx.schedule("1h")


def jobs() -> Jobs:
    return Jobs(job=task_of(add, state=int, event=int, execute=lambda ctx: None))


def text_of(url: str, column: str) -> str:
    """A column of records as text."""
    return column if url.startswith("sqlite:") else f"convert_from({column}, 'UTF8')"


def bytes_of(url: str, text: str) -> str:
    return f"CAST({text} AS BLOB)" if url.startswith("sqlite:") else f"convert_to({text}, 'UTF8')"


def change_newest(url: str) -> str:
    """Another due time in the newest event, which no other event names the hash of."""
    text = f"""replace({text_of(url, "state")}, '"due_us":1', '"due_us":2')"""
    return (
        f"UPDATE {{at}}stored_events SET state = {bytes_of(url, text)} WHERE originator_id ="
        f" '{STREAM}' AND topic = 'wakelog.Scheduled' AND originator_version = 10"
    )


def drop_newest(url: str) -> str:
    return (
        f"DELETE FROM {{at}}stored_events WHERE originator_id = '{STREAM}'"
        " AND originator_version > 6"
    )


def add_another(url: str) -> str:
    columns = "originator_id, originator_version, topic, state"
    return (
        f"INSERT INTO {{at}}stored_events ({columns}) SELECT originator_id,"
        f" originator_version + 1, topic, state FROM {{at}}stored_events"
        f" WHERE originator_id = '{STREAM}' ORDER BY originator_version DESC LIMIT 1"
    )


def change_hash(url: str) -> str:
    return f"UPDATE {{at}}status SET hash = 'f' || hash WHERE stream = '{STREAM}'"


def change_payload(url: str) -> str:
    """Another state, which the record's first line has another digest of."""
    line_feed = "char(10)" if url.startswith("sqlite:") else "chr(10)"
    text = f"replace({text_of(url, 'state')}, {line_feed} || '300', {line_feed} || '900')"
    return f"UPDATE {{at}}stored_events SET state = {bytes_of(url, text)} WHERE {PAYLOAD}"


def destroy(url: str, where: str) -> str:
    """All items of a payload destroyed, as the page about the log says it."""
    if url.startswith("sqlite:"):
        text = "CAST(state AS TEXT)"
        line = f"substr({text}, 1, instr({text}, char(10)))"
    else:
        line = f"split_part({text_of(url, 'state')}, chr(10), 1) || chr(10)"
    return f"UPDATE {{at}}stored_events SET state = {bytes_of(url, line)} WHERE {where}"


PAYLOAD = f"originator_id = '{STREAM}' AND originator_version = 9"
"""The newest state of the instance."""
WAITING = "originator_version = 3"
DAMAGES: list[tuple[Callable[[str], str], str]] = [
    (change_newest, OTHER_HASH),
    (drop_newest, ENDS),
    (add_another, UNSEEN),
    (change_hash, OTHER_HASH),
]
FOUND_BY_LOADS = [*DAMAGES, (change_payload, "its payload is not what its digest is of")]
"""The doctor looks at the newest events only."""


def level_of(url: str, check: str) -> str | None:
    """What the doctor says of it."""
    said = json.loads(CommandLine(url)("doctor", "--json").stdout)
    return {each["check"]: each["level"] for each in said["findings"]}.get(check)


def damaged(url: str, damage: Callable[[str], str]) -> Simulation:
    """A store with a damaged instance and a sound one, and a process that knows neither."""
    sim = Simulation(jobs(), url=url)
    for _ in range(3):
        sim.task("job").send("a", 100)
    sim.task("job").send("b", 1)
    with direct_access(url) as do:
        assert do(damage(url)) > 0
    sim.restart()
    return sim


@pytest.mark.parametrize(("damage", "said"), FOUND_BY_LOADS)
def test_H4_a_damaged_stream_is_told_by_requests_and_its_history(
    shared_url: str, damage: Callable[[str], str], said: str
) -> None:
    with damaged(shared_url, damage) as sim:
        for ask in (
            lambda: sim.history(STREAM),
            lambda: sim.state_at(STREAM, version=sim.task("job").status("a").version),
            lambda: sim.task("job").send("a", 1),
        ):
            with pytest.raises(IntegrityError, match=said):
                ask()


@pytest.mark.parametrize(("damage", "said"), FOUND_BY_LOADS)
def test_K4_a_request_that_finds_damage_parks_the_instance_once(
    shared_url: str, damage: Callable[[str], str], said: str
) -> None:
    with damaged(shared_url, damage) as sim:
        for _ in range(3):
            with pytest.raises(HistoryError):
                sim.task("job").send("a", 1)
        status = sim.task("job").status("a")
        assert status.status == "failed"
        assert status.last_error is not None
        assert said in status.last_error.message
        assert [alarm.instance_id for alarm in sim.alarms()] == ["task:job:b"]
        assert status.version <= 11
        sim.advance("2h")
        assert sim.task("job").status("b").execute_count == 1
    assert level_of(shared_url, "parked") == "problem"


@pytest.mark.parametrize(("damage", "said"), FOUND_BY_LOADS)
def test_K4_a_claim_that_finds_damage_parks_the_instance(
    shared_url: str, damage: Callable[[str], str], said: str
) -> None:
    with damaged(shared_url, damage) as sim:
        sim.advance("2h")
        status = sim.task("job").status("a")
        assert (status.status, status.execute_count) == ("failed", 0)
        assert status.last_error is not None
        assert said in status.last_error.message
        assert sim.alarms() == []
        assert sim.task("job").status("b").execute_count == 1


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_the_doctor_sees_what_no_request_has_met_yet(
    shared_url: str, damage: Callable[[str], str], said: str
) -> None:
    damaged(shared_url, damage).close()
    assert level_of(shared_url, "log") == "problem"


def test_E4_an_instance_whose_state_was_destroyed_is_read_and_not_worked_on(
    shared_url: str,
) -> None:
    with damaged(shared_url, lambda url: destroy(url, PAYLOAD)) as sim:
        # then its history shows it
        history = sim.history(STREAM)
        assert [entry.version for entry in history if entry.erased] == [9]
        assert "state" not in history[8].data
        assert "(erased)" in history[8].description
        assert sim.state_at(STREAM, version=8).state == 200
        # and nothing is made of it
        for ask in (
            lambda: sim.state_at(STREAM, version=9),
            lambda: sim.task("job").send("a", 1),
        ):
            with pytest.raises(UnreadableEventError, match="its payload was destroyed"):
                ask()
        assert sim.task("job").status("a").status == "failed"
        sim.advance("2h")
        assert sim.task("job").status("b").execute_count == 1


@pytest.mark.parametrize("restarts", [True, False])
def test_E4_a_waiting_event_that_was_destroyed_is_not_handled_as_an_empty_one(
    shared_url: str, restarts: bool
) -> None:
    handled: list[object] = []

    def on_event(ctx: Ctx, event: object) -> None:
        handled.append(event)

    with Simulation(Jobs(job=task_of(on_event)), url=shared_url) as sim:
        sim.task("job").send("a", {"n": 1})
        sim.task("job").send("a", {"n": 2}, delay="1h")
        with direct_access(shared_url) as do:
            assert do(destroy(shared_url, f"originator_id = '{STREAM}' AND {WAITING}")) == 1
        if restarts:
            sim.restart()
        # when
        sim.advance("2h")
        # then
        assert handled == [{"n": 1}]
        status = sim.task("job").status("a")
        assert status.last_error is not None
        assert "its payload was destroyed" in status.last_error.message


def test_E4_a_step_whose_result_was_destroyed_is_not_done_again(shared_url: str) -> None:
    done: list[str] = []

    def mail() -> str:
        done.append("mail")
        return "sent"

    def execute(ctx: Any) -> None:
        ctx.step_blocking("mail", mail)
        raise RuntimeError("later")

    retry = Retry(max_attempts=2, delay="1h", jitter=0)
    job = task_of(lambda ctx, event: ctx.schedule("1m"), execute=execute, retry=retry)
    with Simulation(Jobs(job=job), url=shared_url) as sim:
        sim.task("job").send("a", {})
        sim.advance("2m")
        step = next(each for each in sim.history(STREAM) if each.event == "StepCompleted")
        where = f"originator_id = '{STREAM}' AND originator_version = {step.version}"
        with direct_access(shared_url) as do:
            assert do(destroy(shared_url, where)) == 1
        # when
        sim.advance("2h")
        # then
        assert done == ["mail"]
        error = sim.task("job").status("a").last_error
        assert error is not None
        assert (error.type, "its payload was destroyed" in error.message) == (
            "UnreadableEventError",
            True,
        )


def test_U3_a_change_under_a_cached_instance_is_not_sealed_into_the_chain(
    shared_url: str,
) -> None:
    with Simulation(jobs(), url=shared_url) as sim:
        sim.task("job").send("a", 100)
        with direct_access(shared_url) as do:
            do(change_hash(shared_url))
        with pytest.raises(IntegrityError, match=OTHER_HASH):
            sim.task("job").send("a", 1)


def test_U12_a_damaged_status_row_is_passed_over_for_the_log(shared_url: str) -> None:
    with Simulation(jobs(), url=shared_url) as sim:
        sim.task("job").send("a", 100)
        sound = sim.task("job").status("a")
        for change in ("state = '999'", "event_count = 7", "status = 'failed'", "due_us = 1"):
            with direct_access(shared_url) as do:
                do(f"UPDATE {{at}}status SET {change}")
            assert sim.task("job").get_state("a") == 100
            assert sim.task("job").status("a") == sound
            assert level_of(shared_url, "log") == "problem"
        assert sim.task("job").send("a", 1).event_count == 2  # writes the row anew
        assert level_of(shared_url, "log") == "ok"


def test_U12_a_list_is_not_made_of_damaged_status_rows(shared_url: str) -> None:
    with jobs().open(shared_url) as app:
        job = app.task("job")
        sound = [job.send(id, 100) and job.status(id) for id in "ab"]
        with direct_access(shared_url) as do:
            do("UPDATE {at}status SET event_count = 7")
        assert [row.event_count for row in app.list()] == [1, 1]
        assert [row.version for row in app.list()] == [each.version for each in sound]


@pytest.mark.parametrize("every", [1, 3, 1000])
def test_K1_a_cut_stream_is_noticed_behind_a_snapshot_too(shared_url: str, every: int) -> None:
    with Simulation(jobs(), url=shared_url, settings=Settings(snapshot_every=every)) as sim:
        for _ in range(3):
            sim.task("job").send("a", 100)
        with direct_access(shared_url) as do:
            do(drop_newest(shared_url))
        sim.restart()
        with pytest.raises(IntegrityError, match=ENDS):
            sim.task("job").send("a", 1)


def test_a_kept_reply_that_cannot_be_read_is_damage(shared_url: str) -> None:
    with Simulation(jobs(), url=shared_url) as sim:
        sim.task("job").send("a", 1, event_id="k")
        with direct_access(shared_url) as do:
            do("UPDATE {at}kept_replies SET body = 'x' || body")
        with pytest.raises(StoreUnavailableError) as caught:
            sim.task("job").send("a", 1, event_id="k")
        assert caught.value.reason == "damaged"


def given_up(url: str, kind: str) -> Simulation:
    """A store with an instance, some events of which a handler, or no code, could take."""

    def fails(ctx: Ctx, event: int) -> None:
        raise LookupError("no address")

    class Moved(BaseModel):
        at: int

    broken = Jobs(job=task_of(fails, state=int, event=int, execute=lambda ctx: None))
    unable = Jobs(job=task_of(add, state=int, event=Moved, execute=lambda ctx: None))
    with Simulation(jobs(), url=url) as sim:
        sim.task("job").send("a", 100)
        for id in ("a", "b"):
            sim.task("job").send(id, 1, delay="1m")
    with Simulation(broken if kind == "dead" else unable, url=url, start=sim.now) as sim:
        sim.advance("1m")
    return Simulation(jobs(), url=url, start=sim.now, handlers=False)


def event_of(url: str, topic: str, sql: str) -> None:
    with direct_access(url) as do:
        assert do(f"{sql} WHERE originator_id = '{STREAM}' AND topic = 'wakelog.{topic}'") > 0


@pytest.mark.parametrize("topic", ["DeadLettered", "EventReceived"])
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM {at}stored_events", "not in the log"),
        ("UPDATE {at}stored_events SET topic = 'wakelog.Paused'", "Paused"),
    ],
)
def test_A9_dead_letters_that_are_damaged_are_typed_errors(
    shared_url: str, topic: str, sql: str, said: str
) -> None:
    with given_up(shared_url, "dead") as sim:
        sim.task("job").pause("a")  # its row has a state of its own, which needs no older event
        assert len(sim.dead_letters()) == 2
        event_of(shared_url, topic, sql)
        with pytest.raises(HistoryError, match=said):
            sim.dead_letters()
        with pytest.raises(HistoryError, match=said):
            sim.task("job").dead_letters("a")
        assert len(sim.task("job").dead_letters("b")) == 1


def test_K4_a_damaged_instance_that_waits_for_code_holds_up_no_other(shared_url: str) -> None:
    given_up(shared_url, "unread").close()
    event_of(shared_url, "EventReceived", "DELETE FROM {at}stored_events")
    with Simulation(jobs(), url=shared_url) as sim:
        sim.advance("1d")
        assert sim.task("job").get_state("b") == 1
    with direct_access(shared_url) as do:
        do(f"UPDATE {{at}}status SET code_error = 'x' WHERE stream = '{STREAM}'")
    assert level_of(shared_url, "log") == "problem"
    assert level_of(shared_url, "waiting_for_code") == "warning"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM {at}stored_events", "not in the log"),
        ("UPDATE {at}stored_events SET topic = 'wakelog.Paused'", "Paused"),
    ],
)
def test_K4_a_deferred_event_that_is_damaged_parks_the_instance_and_holds_up_no_other(
    shared_url: str, sql: str, said: str
) -> None:
    settings = Settings(snapshot_every=1)  # it can be loaded without its older events
    with Simulation(jobs(), url=shared_url, settings=settings) as sim:
        for id in ("a", "b"):
            sim.task("job").send(id, 1, delay="1m")
        sim.task("job").pause("a")
        sim.task("job").resume("a")
        start = sim.now
    event_of(shared_url, "EventReceived", sql)
    with Simulation(jobs(), url=shared_url, start=start) as sim:
        sim.advance("1d")
        assert sim.task("job").get_state("b") == 1
        status = sim.task("job").status("a")
        assert status.status == "failed"
        assert said in str(status.last_error)
