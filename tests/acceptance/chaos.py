"""Chaos: workers are killed and the server is restarted, at random, while clients go on calling.

`storm(server, …)` runs four worker processes and two client processes on one PostgreSQL, all with
least rights and with `troubles`, and when it has passed holds what they saw against what is
recorded. What it answers are the figures.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.acceptance.jobs_under_kill import Chore, Done, chore, jobs
from tests.acceptance.linearizable import Call, check_counter
from tests.acceptance.processes import LOOK_S, Child, Children, Said, audited, is_quiet, wait_until
from tests.acceptance.recorded import check_alarms, check_runs, check_waiting
from tests.acceptance.troubles import GRACE_S, Troubled, Troubles
from tests.adapters.postgres.network_cuts import Where, Wire, wired
from tests.auditing import runs_of
from tests.support_postgres import Server, Stop, with_options
from tests.support_roles import ROLES, as_role, make_roles
from wakelog import BlockingApp
from wakelog.core.events import EventReceived, Executed, ExecutionLost
from wakelog.log.records import Recorded

__all__ = ["Report", "storm"]

WORKERS = 4
CLIENTS = 2
INSTANCES = 12
TIMEOUT_S = 2
PATIENT = {"timeout": TIMEOUT_S, "wait": 60}
IMPATIENT = {"timeout": 0.3}
"""One client is told when the server is away, all others wait for it."""
LEASE = "2s"
SLOTS = 8
CALLS = 15
"""How many calls a client may still owe."""
KILL_S, STAYS_S, AWAY_S = (1.0, 4.0), (1.0, 5.0), (0.0, 1.5)
"""Between two kills, and how long the server stays and stays away."""
AN_APPEND, UNCUT = '"commit":', 40
"""What passes on a wire with each append; how many of these at most between two cuts."""
STOPS: tuple[Stop, ...] = ("fast", "immediate", "kill")
PATIENCE_S = 90.0
"""How long all may take to come to rest afterwards."""


@dataclass
class Report:
    """The figures of a storm."""

    seed: int
    duration_s: float = 0
    kills: int = 0
    restarts: Counter[str] = field(default_factory=Counter[str])
    cuts: int = 0
    """Connections of a client that were cut before or after an append was done."""
    sends: int = 0
    acknowledged: int = 0
    reads: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    """Tries of clients that failed, by the reason they were told."""
    unacknowledged_but_recorded: int = 0
    deferred: int = 0
    runs: int = 0
    lost_attempts: int = 0
    lost_by_living: int = 0
    """Attempts that a worker lost without being killed: the server was away for its whole lease."""
    doubled: int = 0
    overlaps: int = 0
    """Of user code: an attempt began before a lost one of a living worker had noticed."""
    events: int = 0
    troubles: Troubled = field(default_factory=Troubled)

    def __str__(self) -> str:
        return "\n".join(
            f"  {name.replace('_', ' ')}: {dict(value) if isinstance(value, Counter) else value}"
            for name, value in vars(self).items()
        )


def storm(server: Server, *, seconds: float, seed: int) -> Report:
    """Kill and restart for so long, let all come to rest, check it all. Prints the seed first."""
    print(f"chaos: seed {seed}, {seconds:g} s")
    url = with_options(server.url, schema="chaos")
    patient = with_options(url, **PATIENT)
    with (
        wired(url) as (wire, on_wire),
        jobs.open(patient) as app,
        Children(url) as children,
    ):
        make_roles(url, *ROLES)
        rng = random.Random(seed)
        troubles = Troubles(rng, wire, timeout_s=TIMEOUT_S)
        report = Report(seed, troubles=troubles.report)
        over = _Storm(server, children, (url, on_wire), rng, report, wire, troubles)
        over.begin()
        over.blow(seconds)
        over.calm(app)
        ids = [row.instance_id.split(":")[2] for row in app.list()]
        states = {f"task:chore:{id}": app.task(chore).get_state(id) for id in ids}
    histories = audited(url)
    _check_recorded(histories, states, over)
    _check_sends(histories, over)
    _check_notes(histories, over)
    impatient = over.calls[over.clients[0].pid]
    troubles.check_tries(tried for call in impatient for tried in call.tries)
    return report


@dataclass
class _Storm:
    server: Server
    children: Children
    urls: tuple[str, str]
    """Of the server, and of the same on the wire."""
    rng: random.Random
    report: Report
    wire: Wire
    troubles: Troubles
    workers: list[Child] = field(default_factory=list[Child])
    clients: list[Child] = field(default_factory=list[Child])
    owed: Counter[int] = field(default_factory=Counter[int])
    """Calls that each client was told to make and has not printed."""
    calls: dict[int, list[Call]] = field(default_factory=lambda: defaultdict(list))
    """What each client has printed."""
    started: int = 0
    """How many workers."""
    notes: list[Said] = field(default_factory=list[Said])
    killed_us: dict[int, int] = field(default_factory=dict[int, int])
    """By which monotonic instant a worker was surely dead."""
    killed_at_us: dict[int, int] = field(default_factory=dict[int, int])
    """The same by the clock that the log tells."""
    restarted_us: int = 0

    def begin(self) -> None:
        """Workers that wait for the server where it is away, and clients on the wire: an impatient
        one that calls `on_event`, as a worker may, and a patient one that leaves it to them."""
        for _ in range(WORKERS):
            self._start_worker()
        self._start_client("jobs_worker", "handlers", IMPATIENT)
        self.troubles.impatient = self.clients[0]
        self._start_client("jobs_client", "none", PATIENT)
        for child in [*self.workers, *self.clients]:
            self.troubles.has_heard(child, child.line())
        self._await(lambda: self.troubles.has_sessions(self.urls[0]))

    def blow(self, seconds: float) -> None:
        self.troubles.begin()
        began_s = now_s = time.monotonic()
        kill_s, turn_s = now_s, now_s + self.rng.uniform(*STAYS_S)
        while now_s < began_s + seconds:
            self._tell()
            self._listen()
            self.troubles.turn(self.clients, self.workers)
            now_s = time.monotonic()
            if now_s >= kill_s:
                self._kill_one()
                kill_s = now_s + self.rng.uniform(*KILL_S)
            if now_s >= turn_s and self._turn():
                turn_s = now_s + self.rng.uniform(*(STAYS_S if self.server.is_running else AWAY_S))
        self.report.duration_s = round(now_s - began_s, 1)

    def calm(self, app: BlockingApp) -> None:
        """Each client calls once more; then whatever was begun comes to its end."""
        self.troubles.end()
        self._await(self._is_calm)
        for client in self.clients:
            self._tell_one(client, CALLS)
        self._await(lambda: not self.owed.total())
        wait_until(lambda: is_quiet(app), self.clients[0], PATIENCE_S)
        for worker in self.workers:
            self._hear(worker, worker.kill())

    def _is_calm(self) -> bool:
        """Whether the server is there, and nothing else the matter."""
        self.troubles.turn([], [])
        return (self.server.is_running or self._turn()) and self.troubles.are_over

    def _await(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            self._listen()
            assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {self._logged()}"

    def _tell(self) -> None:
        if not self.wire.is_to_be_cut:
            where: Where = self.rng.choice(("before", "after"))
            self.wire.cut_at(AN_APPEND, where, after=self.rng.randrange(UNCUT))
            self.report.cuts += 1
        for client in self.clients:
            self._tell_one(client, CALLS - self.owed[client.pid])

    def _tell_one(self, client: Child, calls: int) -> None:
        for _ in range(calls):
            client.tell("call")
            self.owed[client.pid] += 1

    def _listen(self) -> None:
        for child in [*self.clients, *self.workers]:
            self._hear(child, child.lines_so_far())
        gone = [client.logged for client in self.clients if client.has_ended]
        assert not gone, f"a client has ended: {gone}"
        worker = self.rng.choice(self.workers)
        awaited = worker.line_if_any(LOOK_S)
        self._hear(worker, [] if awaited is None else [awaited])

    def _hear(self, child: Child, lines: Sequence[str]) -> None:
        for line in lines:
            if self.troubles.has_heard(child, line):
                continue
            if child in self.clients:
                self.calls[child.pid].append(Call.of(line))
                self.owed[child.pid] -= 1
            else:
                self.notes.append(Said.of(line))

    def _start_client(self, role: str, handlers: str, options: Mapping[str, object]) -> None:
        number, seed = str(len(self.clients) + 1), str(self.rng.randrange(1 << 30))
        words = (number, seed, str(INSTANCES), f"{GRACE_S:g}s", handlers)
        url = as_role(with_options(self.urls[1], **options), role)
        client = self.children.start("caller", *words, url=url)
        self.clients.append(client)
        self.troubles.on_wire.add(client.pid)

    def _start_worker(self) -> None:
        """Every second one on the wire."""
        is_on_wire = self.started % 2 == 0
        url = as_role(with_options(self.urls[is_on_wire], **PATIENT), "jobs_worker")
        words = (LEASE, str(SLOTS), f"grace={GRACE_S:g}s")
        worker = self.children.start("worker", *words, url=url)
        self.started += 1
        self.workers.append(worker)
        if is_on_wire:
            self.troubles.on_wire.add(worker.pid)

    def _kill_one(self) -> None:
        able = [worker for worker in self.workers if self.troubles.may_kill(worker)]
        if not able:
            return
        worker = self.rng.choice(able)
        self.workers.remove(worker)
        self._hear(worker, worker.kill())
        self.killed_us[worker.pid] = time.monotonic_ns() // 1000
        self.killed_at_us[worker.pid] = time.time_ns() // 1000
        self.report.kills += 1
        self._start_worker()

    def _turn(self) -> bool:
        """Stop the server, or start it, if that may be."""
        if self.server.is_running:
            if not self.troubles.may_go(self.clients, self.workers):
                return False
            how = self.rng.choice(STOPS)
            self.server.stop(how)
            self.report.restarts[how] += 1
            self.troubles.away(self.clients, self.workers)
        else:
            if not self.troubles.may_return():
                return False
            self.server.start()
            self.troubles.back()
            self.restarted_us = time.monotonic_ns() // 1000
        return True

    def _logged(self) -> str:
        return "".join(line for client in self.clients for line in client.logged)


# -- afterwards ------------------------------------------------------------------------------------


def _check_recorded(
    histories: Mapping[str, Sequence[Recorded]], states: Mapping[str, Done | None], over: _Storm
) -> None:
    """Each event was handled once, each alarm fired, each run ended well once."""
    report = over.report
    for stream, history in histories.items():
        events = [recorded.event for recorded in history]
        received = [event for event in events if isinstance(event, EventReceived)]
        check_waiting(history)
        check_alarms(stream, events)
        begun = check_runs(stream, history)
        state = states[stream]
        assert state is not None
        assert (state.told, state.runs) == (len(received), begun)
        executed = [event.run for event in events if isinstance(event, Executed)]
        lost = [
            (int(recorded.event.worker.split(":")[-2]), recorded.at_us)
            for recorded in history
            if isinstance(recorded.event, ExecutionLost)
        ]
        report.runs += begun
        report.doubled += len(executed) - len(set(executed))
        report.deferred += sum(event.deferred for event in received)
        report.lost_attempts += len(lost)
        dead = over.killed_at_us
        report.lost_by_living += sum(pid not in dead or at_us < dead[pid] for pid, at_us in lost)
        report.events += len(history)


def _check_sends(histories: Mapping[str, Sequence[Recorded]], over: _Storm) -> None:
    """What was acknowledged is recorded once, what was refused is not; the counters add up."""
    report = over.report
    tickets = {stream: _tickets(history) for stream, history in histories.items()}
    recorded = Counter(ticket for each in tickets.values() for ticket in each)
    all_calls = [call for calls in over.calls.values() for call in calls]
    report.doubled += sum(times - 1 for times in recorded.values())
    assert report.doubled == 0, {ticket for ticket, times in recorded.items() if times > 1}
    for call in all_calls:
        report.errors.update(call.errors)
        report.reads += not call.ticket
        report.sends += bool(call.ticket)
        if call.ticket and call.answered_us is not None:
            report.acknowledged += 1
            assert recorded[call.ticket] == 1, f"acknowledged, and not recorded: {call}"
        elif recorded[call.ticket]:
            report.unacknowledged_but_recorded += 1
            assert "unknown" in call.errors, f"said not to be recorded, but is: {call}"
    assert set(recorded) <= {call.ticket for call in all_calls}
    for client in range(1, CLIENTS + 1):
        late = [c for c in all_calls if c.ticket // 1_000_000 == client and c.answered_us]
        last_us = max(call.invoked_us for call in late)
        assert last_us > over.restarted_us, "it did not come back after the last restart"
    for stream, accepted in tickets.items():
        calls = [call for call in all_calls if f"task:chore:{call.id}" == stream]
        check_counter(calls, accepted)


def _tickets(history: Sequence[Recorded]) -> list[int]:
    events = [recorded.event for recorded in history]
    payloads = [event.payload or "" for event in events if isinstance(event, EventReceived)]
    return [Chore.model_validate_json(payload).number for payload in payloads]


def _check_notes(histories: Mapping[str, Sequence[Recorded]], over: _Storm) -> None:
    """By the workers' own notes each attempt ran in one place, and no two of an instance at once.

    Except for one that its worker, alive, was taken: that is recorded as lost.
    """
    attempts = {
        (stream.split(":")[2], run, attempt): isinstance(end.event, ExecutionLost)
        for stream, history in histories.items()
        for (_, run, attempt), [end] in runs_of(history).items()
    }
    spans: dict[tuple[str, int, int], list[tuple[int, int]]] = defaultdict(list)
    left = {(n.id, n.run, n.attempt): n.at_us for n in over.notes if n.what == "left"}
    for note in over.notes:
        if note.what == "run":
            which = note.id, note.run, note.attempt
            end_us = left.get(which) or over.killed_us[note.pid]
            spans[which].append((note.at_us, end_us))
    assert all(len(places) == 1 for places in spans.values()), "an attempt ran in two places"
    assert set(spans) <= set(attempts), "an attempt ran that is not recorded"
    ended_well = {which for which, was_lost in attempts.items() if not was_lost}
    assert ended_well <= set(spans), "a run is recorded that no worker has begun"
    for id in {id for id, _, _ in spans}:
        mine = sorted((span, which) for which, [span] in spans.items() if which[0] == id)
        for (before, which), (after, _) in pairwise(mine):
            if after[0] < before[1]:
                over.report.overlaps += 1
                assert attempts[which], f"{which} ran when another began, and was not lost"
