"""A storm over worker pools: workers are killed, the store goes away, connections are cut.

`pool_storm(url, …)` runs four worker processes and two clients of `pools_in_storm`, on a server
with least rights, and with `troubles`; lets all come to rest, and has `pool_storm_audits` hold what
they noted against what is recorded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.jobs_under_kill import now_us
from tests.acceptance.outage_stores import AwayFile, RestartedServer
from tests.acceptance.pool_storm_audits import PoolReport, Witnessed, check
from tests.acceptance.pools_in_storm import POOLS, Asked, Noted, jobs
from tests.acceptance.processes import LOOK_S, Child, Children, wait_until
from tests.acceptance.troubles import GRACE_S, Troubles
from tests.adapters.postgres.network_cuts import Where, Wire, wired
from tests.auditing_pools import audit_pool
from tests.support_postgres import with_options
from tests.support_roles import ROLES, as_role, make_roles
from wakelog import BlockingApp
from wakelog.jobs import open_store

__all__ = ["LEASE", "pool_storm"]

MODULE = "tests.acceptance.pools_in_storm"
WORKERS = 4
CLIENTS = 2
LEASE = "2s"
KILL_S, STAYS_S, AWAY_S, CUT_S = (1.0, 3.0), (1.0, 4.0), (0.0, 1.5), (0.1, 1.0)
"""Between two kills, how long the store stays and stays away, and between two cuts."""
AN_EVENT, UNCUT = '"commit":', 10
"""What passes on a wire with each call that writes; how many of these at most before a cut."""
TIMEOUT_S = 2
PATIENT, IMPATIENT = {"timeout": TIMEOUT_S, "wait": 60}, {"timeout": 0.3}
"""One client is told when the server is away, all others wait for it."""
PATIENCE_S = 120.0
"""How long all may take to come to rest afterwards."""


def pool_storm(
    store: AwayFile | RestartedServer,
    url: str,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    lease: str = LEASE,
) -> PoolReport:
    """Kill for so long, have the store go away, and cut connections to a server; let all come to
    rest, check it all. Prints the seed first."""
    print(f"storm of pools: seed {seed}, {seconds:g} s, lease {lease}")
    owner = url if isinstance(store, AwayFile) else with_options(url, **PATIENT)
    with (
        jobs().open(owner) as app,
        Children(owner, MODULE) as children,
        _reached(store, url) as (wire, urls),
    ):
        storm = _Storm(children, folder, random.Random(seed), store, wire, urls, lease)
        report = storm.report = PoolReport(seed, troubles=storm.troubles.report)
        storm.begin()
        storm.blow(seconds)
        storm.calm(app)
    with closing(open_store(owner)) as factory:
        recorder = factory.application_recorder()
        audits = {pool: audit_pool(recorder, f"workerPool:{pool}") for pool in POOLS}
    check(audits, storm.seen, report)
    impatient = [asked for asked in storm.seen.asked if asked.numbers[0] < 2_000_000]
    storm.troubles.check_tries(tried for asked in impatient for tried in asked.tries)
    return report


class _Urls(NamedTuple):
    """Of the store, for each sort of process."""

    owner: str
    workers: tuple[str, str]
    """In turn; the second is on the wire, if there is one."""
    impatient: str
    """Of a client that calls handlers, as a worker may."""
    patient: str
    """Of one that leaves them to the workers."""


@contextmanager
def _reached(store: AwayFile | RestartedServer, url: str) -> Generator[tuple[Wire | None, _Urls]]:
    """A wire to a server, and the URLs; both clients are on the wire."""
    if isinstance(store, AwayFile):
        patient, impatient = f"{url}?timeout={TIMEOUT_S}", f"{url}?timeout={IMPATIENT['timeout']}"
        yield None, _Urls(url, (patient, patient), impatient, patient)
        return
    make_roles(url, *ROLES)
    with wired(url) as (wire, on_wire):
        worker, worker_on_wire = (as_role(each, "jobs_worker") for each in (url, on_wire))
        workers = with_options(worker, **PATIENT), with_options(worker_on_wire, **PATIENT)
        client = with_options(as_role(on_wire, "jobs_client"), **PATIENT)
        yield wire, _Urls(url, workers, with_options(worker_on_wire, **IMPATIENT), client)


class _Storm:
    report: PoolReport

    def __init__(
        self,
        children: Children,
        folder: Path,
        rng: random.Random,
        store: AwayFile | RestartedServer,
        wire: Wire | None,
        urls: _Urls,
        lease: str,
    ) -> None:
        self._children = children
        self._folder = folder
        self._rng = rng
        self._store = store
        self._wire = wire
        self._urls = urls
        self._lease = lease
        self._workers: list[Child] = []
        self._clients: list[Child] = []
        self._started = 0
        self._over = 0
        """How many clients have ended their calls."""
        self.troubles = Troubles(rng, wire, timeout_s=TIMEOUT_S)
        self.seen = Witnessed()

    def begin(self) -> None:
        for _ in range(WORKERS):
            self._start_worker()
        self._start_client("handlers", self._urls.impatient)
        self.troubles.impatient = self._clients[0]
        self._start_client("none", self._urls.patient)
        for child in [*self._workers, *self._clients]:
            self._hear(child, [child.line()])
        if self._wire is not None:
            self._await(lambda: self.troubles.has_sessions(self._urls.owner))

    def blow(self, seconds: float) -> None:
        self.troubles.begin()
        began_s = now_s = time.monotonic()
        kill_s, cut_s = now_s + self._rng.uniform(*KILL_S), now_s
        turn_s = now_s + self._rng.uniform(*STAYS_S)
        while now_s < began_s + seconds:
            self._listen()
            self.troubles.turn(self._clients, self._workers)
            now_s = time.monotonic()
            if now_s >= kill_s:
                self._kill_one()
                kill_s = now_s + self._rng.uniform(*KILL_S)
            if self._wire is not None and now_s >= cut_s:
                self._cut(self._wire)
                cut_s = now_s + self._rng.uniform(*CUT_S)
            if now_s >= turn_s and self._turn():
                span = STAYS_S if self._store.is_running else AWAY_S
                turn_s = time.monotonic() + self._rng.uniform(*span)
        self.report.duration_s = round(now_s - began_s, 1)

    def calm(self, app: BlockingApp) -> None:
        """Clients end their calls, then all that was accepted comes to its end."""
        self.troubles.end()
        self._await(self._is_calm)
        began_s = time.monotonic()
        for client in self._clients:
            client.tell("end")
        self._await(lambda: self._over == CLIENTS)
        wait_until(lambda: _is_empty(app), self._workers[0], PATIENCE_S)
        self.report.calmed_s = round(time.monotonic() - began_s, 1)
        for worker in self._workers:
            worker.kill()
            self.seen.gone_us[worker.pid] = now_us()
        for file in self._folder.glob("*.notes"):
            self.seen.notes += [Noted.of(line) for line in file.read_text().splitlines()]
        self.seen.notes.sort(key=lambda noted: noted.at_us)

    def _listen(self) -> None:
        for child in [*self._clients, *self._workers]:
            self._hear(child, child.lines_so_far())
        worker = self._rng.choice(self._workers)
        awaited = worker.line_if_any(LOOK_S / 2)
        self._hear(worker, [] if awaited is None else [awaited])

    def _hear(self, child: Child, lines: Sequence[str]) -> None:
        for line in lines:
            if line == "over":
                self._over += 1
            elif not self.troubles.has_heard(child, line):
                self.seen.asked.append(Asked.of(line))

    def _start_client(self, handlers: str, url: str) -> None:
        number, seed = str(len(self._clients) + 1), str(self._rng.randrange(1 << 30))
        words = f"{GRACE_S:g}s", handlers, number, seed
        client = self._children.start("client", *words, url=url)
        self._clients.append(client)
        self.troubles.on_wire.add(client.pid)

    def _start_worker(self) -> None:
        is_on_wire = self._started % 2
        words = f"{GRACE_S:g}s", self._lease, str(self._folder)
        worker = self._children.start("worker", *words, url=self._urls.workers[is_on_wire])
        self._started += 1
        self._workers.append(worker)
        if is_on_wire:
            self.troubles.on_wire.add(worker.pid)

    def _kill_one(self) -> None:
        able = [worker for worker in self._workers if self.troubles.may_kill(worker)]
        if not able:
            return
        worker = self._rng.choice(able)
        self._workers.remove(worker)
        worker.kill()
        self.seen.gone_us[worker.pid] = now_us()
        self.seen.gone_at_us[worker.pid] = time.time_ns() // 1_000
        self.report.kills += 1
        self._start_worker()

    def _cut(self, wire: Wire) -> None:
        if not wire.is_to_be_cut:
            where: Where = self._rng.choice(("before", "after"))
            wire.cut_at(AN_EVENT, where, after=self._rng.randrange(UNCUT))
            self.report.cuts += 1

    def _turn(self) -> bool:
        """Have the store go away, or come back, if that may be."""
        if self._store.is_running:
            if not self.troubles.may_go(self._clients, self._workers):
                return False
            self.report.restarts[self._store.stop(self._rng)] += 1
            self.troubles.away(self._clients, self._workers)
        else:
            if not self.troubles.may_return():
                return False
            self._store.start()
            self.troubles.back()
        return True

    def _await(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            self._listen()
            assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {self._logged()}"

    def _is_calm(self) -> bool:
        """Whether the store is there, and nothing else the matter."""
        self.troubles.turn([], [])
        return (self._store.is_running or self._turn()) and self.troubles.are_over

    def _logged(self) -> str:
        return "".join(line for child in self._clients for line in child.logged[-20:])


def _is_empty(app: BlockingApp) -> bool:
    """Whether nothing waits or is worked on."""
    found = [app.worker_pool(pool).status() for pool in POOLS]
    return not any(s.pending + s.delayed + s.retrying + s.processing for s in found)
