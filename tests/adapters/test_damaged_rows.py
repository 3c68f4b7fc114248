"""Rows that have no checksum, changed by something else: a typed error, or the right answer."""

from __future__ import annotations

import json

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.support import Ctx, task_of
from tests.support_stores import direct_access
from wakelog import BlockingApp, IntegrityError, Jobs, StoreUnavailableError, UnreadableEventError
from wakelog.testing import Simulation
from wakelog_adapters.sql.admin import store_admin

STREAM = "task:job:a"
NO_MOMENT = 10**18
"""Microseconds that no calendar has."""


def add(ctx: Ctx, event: int) -> None:
    ctx.set_state((ctx.state or 0) + event)
    ctx.schedule("1h")


def jobs() -> Jobs:
    return Jobs(job=task_of(add, state=int, event=int, execute=lambda ctx: None))


def change(url: str, sql: str) -> None:
    with direct_access(url) as do:
        assert do(sql) > 0


def assert_damaged(app: BlockingApp, ask: str) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        app.workers() if ask == "workers" else app.resume("job")
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize(
    "change_to",
    [f"seen_us = {-NO_MOMENT}", f"started_us = {NO_MOMENT}", "jobs = '7'", "jobs = '['"],
)
def test_A6_a_damaged_row_of_a_worker_is_a_typed_error(shared_url: str, change_to: str) -> None:
    with jobs().open(shared_url, worker=True), jobs().open(shared_url) as app:
        assert len(app.workers()) == 1
        change(shared_url, f"UPDATE {{at}}workers SET {change_to}")
        assert_damaged(app, "workers")
        app.task("job").send("a", 1)


def test_A6_a_damaged_lease_is_a_typed_error(shared_url: str) -> None:
    with jobs().open(shared_url) as app:
        app.task("job").send("a", 1)
        change(
            shared_url,
            "INSERT INTO {at}leases (stream, job, owner, until_us, token, run)"
            f" SELECT stream, 'task:job', 'w', {NO_MOMENT}, version, false FROM {{at}}status",
        )
        assert_damaged(app, "workers")


def test_A5_a_damaged_pause_of_a_job_is_told_and_can_be_ended(shared_url: str) -> None:
    with jobs().open(shared_url) as app:
        app.pause("job")
        change(shared_url, f"UPDATE {{at}}job_pauses SET since_us = {NO_MOMENT}")
        assert app.task("job").send("a", 1).deferred
        assert_damaged(app, "resume")
        assert app.resume("job") is None


def test_the_doctor_tells_of_a_row_that_it_cannot_read(shared_url: str) -> None:
    with jobs().open(shared_url, worker=True):
        change(shared_url, "UPDATE {at}workers SET jobs = '['")
        said = json.loads(CommandLine(shared_url)("doctor", "--json").stdout)
    assert ("rows", "problem") in [(each["check"], each["level"]) for each in said["findings"]]


def test_a_damaged_table_of_migrations_is_a_typed_error(sqlite_url: str) -> None:
    """PostgreSQL's columns hold nothing but numbers."""
    jobs().open(sqlite_url).__enter__().close()
    change(sqlite_url, "UPDATE {at}migrations SET compatible_since = 'x'")
    admin = store_admin(sqlite_url)
    for ask in (lambda: jobs().open(sqlite_url).__enter__(), admin.schema_version, admin.migrate):
        with pytest.raises(StoreUnavailableError) as caught:
            ask()
        assert caught.value.reason == "damaged"


def test_U12_an_instance_whose_row_is_gone_is_not_taken_for_one_that_never_was(
    shared_url: str,
) -> None:
    with Simulation(jobs(), url=shared_url) as sim:
        sim.task("job").send("a", 1)
        change(shared_url, f"DELETE FROM {{at}}status WHERE stream = '{STREAM}'")
        sim.restart()
        for ask in (sim.task("job").get_state, sim.task("job").status):
            with pytest.raises(IntegrityError, match="there is no status row"):
                ask("a")
        assert sim.task("job").get_state("b") is None
        assert sim.task("job").status("b").status == "not_found"


@pytest.mark.parametrize(
    ("topic", "field"), [("Scheduled", "due_us"), ("Scheduled", "at_us"), ("StateSet", "at_us")]
)
def test_H1_a_moment_in_the_log_that_no_calendar_has_is_a_typed_error(
    shared_url: str, topic: str, field: str
) -> None:
    with Simulation(jobs(), url=shared_url) as sim:
        sim.task("job").send("a", 1)
        text = "CAST(state AS TEXT)"
        changed = "CAST({text} AS BLOB)"
        if not shared_url.startswith("sqlite:"):
            text, changed = "convert_from(state, 'UTF8')", "convert_to({text}, 'UTF8')"
        new = f"""replace({text}, '"{field}":', '"{field}":999')"""
        change(
            shared_url,
            f"UPDATE {{at}}stored_events SET state = {changed.format(text=new)}"
            f" WHERE topic = 'wakelog.{topic}'",
        )
        with pytest.raises((UnreadableEventError, IntegrityError)):
            sim.history(STREAM)
