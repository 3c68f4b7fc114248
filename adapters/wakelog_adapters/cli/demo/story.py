"""The scenes of `wakelog demo`: orders, an alarm, a worker killed in mid-run, its recovery.

Everything is real: an SQLite file in a temporary folder, workers that are processes of their own,
`kill -9`. All that the demo claims is checked as it runs; a failed check raises.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from wakelog.blocking import BlockingApp, BlockingTaskClient
from wakelog.core.time import moment_us
from wakelog.errors import WakelogError
from wakelog.history.timeline import HistoryEntry
from wakelog.testing import Simulation
from wakelog_adapters.cli.demo.jobs import Cancelled, Order, Paid, Placed, jobs, order
from wakelog_adapters.cli.render.inspect import timeline

__all__ = ["DemoFailedError", "Stage", "Summary", "run", "virtual_time"]

LEASE = "2s"
PATIENCE_S = 20.0
"""How long one scene may take before the demo fails."""
POLL_S = 0.02
DAYS, PAID_ON = 60, 10


Orders = BlockingTaskClient[Order, Placed | Paid | Cancelled]


class DemoFailedError(WakelogError):
    """A check of the demo failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the demo measured."""

    ok: bool
    seconds: float
    folder: str | None
    """Where the store and the workers' logs are, with `--keep`."""
    alarm_late_ms: float
    """How long after its time the reminder ran."""
    killed_pid: int
    recovered_by_pid: int
    takeover_seconds: float
    """From the kill to the run's second start; the lease is 2 s."""
    virtual_days: int
    virtual_alarms: int
    virtual_ms: float
    history: list[HistoryEntry]
    """Of the order whose worker was killed."""


@dataclass(slots=True)
class Stage:
    """Where the demo runs: a folder, a store in it, and the workers that were started."""

    out: Console
    folder: Path
    began_s: float = field(default_factory=time.monotonic)
    workers: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/orders.db"

    def say(self, text: str, style: str = "") -> None:
        """Print what happens, and when."""
        line = Text(f"{time.monotonic() - self.began_s:5.1f} s  ", "dim")
        self.out.print(line.append(text, style or "not dim"))

    def fail(self, what: str) -> NoReturn:
        """Raise `DemoFailedError`, with what the workers logged last."""
        logs = sorted(self.folder.glob("worker-*.log"))
        lines = [f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()]
        raise DemoFailedError("\n  ".join([f"the demo went wrong: {what}", *lines[-10:]]))

    def until(self, what: str, is_true: Callable[[], bool]) -> None:
        """Wait for a condition. Raises `DemoFailedError` after PATIENCE_S."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_true():
            if time.monotonic() > deadline_s:
                self.fail(f"{what} did not happen within {PATIENCE_S:g} s")
            time.sleep(POLL_S)

    def check(self, what: str, is_true: bool) -> None:
        """Raise `DemoFailedError` if a claim is not true."""
        if not is_true:
            self.fail(f"it is not true that {what}")

    def start_worker(self) -> subprocess.Popen[str]:
        """Start a worker in a process of its own; `await_ready` waits until it is ready."""
        number = len(self.workers) + 1
        command = [sys.executable, "-m", "wakelog_adapters.cli", "worker"]
        command += [
            "wakelog_adapters.cli.demo.jobs:jobs",
            "--url",
            self.url,
            "--lease",
            LEASE,
            "--json",
        ]
        with open(self.folder / f"worker-{number}.log", "w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.workers.append(process)
        return process

    def await_ready(self, process: subprocess.Popen[str]) -> int:
        """The worker's process id, from the document that it prints once it is ready."""
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        line = process.stdout.readline() if process.stdout else ""
        watchdog.cancel()
        if not line:
            self.fail("a worker did not start")
        pid: int = json.loads(line)["pid"]
        return pid


def run(out: Console, *, keep: bool = False) -> Summary:
    """Play all scenes, and print them on `out`. Raises `DemoFailedError` if a check fails."""
    with _stage(out, keep) as stage:
        stage.say(f"a store of its own: {stage.url}")
        with jobs.open(stage.url) as app:
            orders = app.task(order)
            first = stage.start_worker()
            first_pid = stage.await_ready(first)
            stage.say(f"a worker runs, a process of its own (pid {first_pid}, lease {LEASE})")
            late_ms = _reminder(stage, app, orders)
            takeover = _takeover(stage, app, orders, first)
            entries = app.history("task:order:o-2")
            _check_takeover(stage, entries)
            out.print(
                Text("\nThe history of o-2, as `wakelog history order o-2` shows it:", "bold")
            )
            out.print(timeline(entries))
        alarms, virtual_ms = virtual_time(stage)
        seconds = time.monotonic() - stage.began_s
        stage.say("all of this was checked: it works", "bold green")
        return Summary(
            ok=True,
            seconds=round(seconds, 3),
            folder=str(stage.folder) if keep else None,
            alarm_late_ms=late_ms,
            killed_pid=first_pid,
            recovered_by_pid=takeover[0],
            takeover_seconds=takeover[1],
            virtual_days=DAYS,
            virtual_alarms=alarms,
            virtual_ms=virtual_ms,
            history=entries,
        )


# -- scenes ----------------------------------------------------------------------------------------


def _reminder(stage: Stage, app: BlockingApp, orders: Orders) -> float:
    """A real alarm fires; returns how late, in milliseconds."""
    orders.send("o-1", Placed(item="tea", remind_after="1s"))
    orders.send("o-2", Placed(item="a lamp"))
    orders.send("o-3", Placed(item="a chair"))
    stage.say("o-1, o-2 and o-3 are placed; o-1 asks to be reminded in 1 s, the others in a day")
    orders.send("o-3", Cancelled())
    stage.check("o-3 is gone", orders.status("o-3").status == "not_found")
    stage.say("o-3 is cancelled: its life and its alarm end, its history stays")

    def reminded() -> bool:
        return orders.status("o-1").execute_count == 1 and not orders.status("o-1").executing

    stage.until("the reminder of o-1", reminded)
    started = _one(stage, app.history("task:order:o-1"), "RunStarted")
    late_ms = (_us(started) - int(started.data["due_us"])) / 1e3
    stage.check("no alarm is early", late_ms >= 0)
    stage.check("o-1 was reminded once", _state(orders, "o-1").reminders == 1)
    stage.say(f"the alarm of o-1 fires in the worker, {late_ms:.0f} ms after its time")
    return round(late_ms, 3)


def _takeover(
    stage: Stage,
    app: BlockingApp,
    orders: Orders,
    first: subprocess.Popen[str],
) -> tuple[int, float]:
    """A worker is killed in mid-run, another takes over; returns its pid and after how long (s)."""
    orders.send("o-2", Paid())
    stage.say("o-2 is paid: packing begins at once")
    stage.until("the packing of o-2", lambda: orders.status("o-2").executing)
    first.kill()
    killed_at_us = time.time_ns() // 1_000
    stage.say(f"kill -9 {first.pid}, in the middle of the run", "bold red")
    second = stage.start_worker()
    pid = stage.await_ready(second)
    stage.say(f"a second worker runs (pid {pid}); it waits until the lease of the killed one ends")
    stage.until("the second attempt", lambda: len(_runs(app)) == 2)
    seconds = (_us(_runs(app)[1]) - killed_at_us) / 1e6
    stage.say(f"it takes the run over, {seconds:.1f} s after the kill: attempt 2")
    stage.until("the packed o-2", lambda: _state(orders, "o-2").status == "packed")
    stage.say("o-2 is packed")
    second.terminate()
    code = second.wait(PATIENCE_S)
    stage.check(f"a stopped worker exits with 0 (it was {code})", code == 0)
    stage.say("the second worker was told to stop, and has stopped")
    return pid, round(seconds, 3)


def _check_takeover(stage: Stage, entries: list[HistoryEntry]) -> None:
    events = [entry.event for entry in entries]
    lost = _one(stage, entries, "ExecutionLost")
    at = events.index("ExecutionLost")
    again = entries[at + 1]
    stage.check("the lease had ended", lost.data.get("reason", "lease_expired") == "lease_expired")
    stage.check("the run was started again", again.event == "RunStarted")
    stage.check("it is attempt 2", again.data["attempt"] == 2)
    stage.check("another worker has it", again.data["worker"] != lost.data["worker"])
    _one(stage, entries, "Executed")
    versions = [entry.version for entry in entries]
    stage.check("no version is missing", versions == list(range(1, len(entries) + 1)))


def virtual_time(stage: Stage) -> tuple[int, float]:
    """Sixty days of two more orders in a simulation; returns the alarms fired, and the real ms."""
    began_s = time.perf_counter()
    with Simulation(jobs) as sim:
        orders = sim.task(order)
        orders.send("v-1", Placed(item="a clock"))
        orders.send("v-2", Placed(item="a calendar"))
        sim.advance(f"{PAID_ON}d")
        orders.send("v-1", Paid())
        sim.advance(f"{DAYS - PAID_ON}d")
        took_ms = (time.perf_counter() - began_s) * 1e3
        one, two, alarms = _state(orders, "v-1"), _state(orders, "v-2"), sim.fired
    stage.check("v-1 was packed", one.status == "packed")
    stage.check("v-1 was reminded until it was paid", one.reminders == PAID_ON)
    stage.check("v-2 was reminded daily", two.reminders == DAYS)
    stage.say(f"virtual time: {DAYS} days of two orders, {alarms} alarms, in {took_ms:.0f} ms")
    return alarms, round(took_ms, 3)


# -- inside ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stage(out: Console, keep: bool) -> Generator[Stage]:
    """A folder for the demo; at the end all workers are killed, and the folder is removed unless
    it is kept."""
    stage = Stage(out, Path(tempfile.mkdtemp(prefix="wakelog-demo-")))
    try:
        yield stage
    finally:
        for process in stage.workers:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        if keep:
            stage.say(f"kept: {stage.folder}")
        else:
            shutil.rmtree(stage.folder, ignore_errors=True)


def _state(orders: Orders, id: str) -> Order:
    state = orders.get_state(id)
    if state is None:
        raise DemoFailedError(f"the demo went wrong: {id} has no state")
    return state


def _us(entry: HistoryEntry) -> int:
    return moment_us(entry.at)


def _runs(app: BlockingApp) -> list[HistoryEntry]:
    return [entry for entry in app.history("task:order:o-2") if entry.event == "RunStarted"]


def _one(stage: Stage, entries: list[HistoryEntry], event: str) -> HistoryEntry:
    matching = [entry for entry in entries if entry.event == event]
    stage.check(f"there is one {event} in the history, not {len(matching)}", len(matching) == 1)
    return matching[0]
