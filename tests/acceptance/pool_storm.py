"""A storm over worker pools: workers are killed, the server is restarted, connections are cut.

`pool_storm(url, …)` runs four worker processes and two clients of `pools_in_storm`, lets all come
to rest, and has `pool_storm_audits` hold what they noted against what is recorded.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.acceptance.jobs_under_kill import now_us
from tests.acceptance.pool_storm_audits import PoolReport, Witnessed, check
from tests.acceptance.pools_in_storm import POOLS, Asked, Noted, jobs
from tests.acceptance.processes import LOOK_S, Child, Children, wait_until
from tests.adapters.postgres.network_cuts import Where, Wire, wired
from tests.auditing_pools import audit_pool
from tests.support_postgres import Server, Stop, with_options
from wakelog import BlockingApp
from wakelog.jobs import open_store

__all__ = ["LEASE", "pool_storm"]

MODULE = "tests.acceptance.pools_in_storm"
WORKERS = 4
CLIENTS = 2
LEASE = "2s"
KILL_S, STAYS_S, AWAY_S, CUT_S = (1.0, 3.0), (1.0, 4.0), (0.0, 1.5), (0.1, 1.0)
"""Between two kills, how long the server stays and stays away, and between two cuts."""
STOPS: tuple[Stop, ...] = ("fast", "immediate", "kill")
AN_EVENT, UNCUT = '"commit":', 10
"""What passes on a wire with each call that writes; how many of these at most before a cut."""
PATIENT, IMPATIENT = {"timeout": 2, "wait": 60}, {"timeout": 0.3}
"""One client is told when the server is away, all others wait for it."""
PATIENCE_S = 120.0
"""How long all may take to come to rest afterwards."""


def pool_storm(
    url: str,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    server: Server | None = None,
    lease: str = LEASE,
) -> PoolReport:
    """Kill for so long, and restart `server` and cut connections to it if it is given; let all come
    to rest, check it all. Prints the seed first."""
    print(f"storm of pools: seed {seed}, {seconds:g} s, lease {lease}")
    report = PoolReport(seed)
    patient = url if server is None else with_options(url, **PATIENT)
    with (
        jobs().open(patient) as app,
        Children(patient, MODULE) as children,
        _wired(server, url) as (
            wire,
            urls,
        ),
    ):
        storm = _Storm(children, folder, random.Random(seed), report, server, wire, urls, lease)
        storm.begin()
        storm.blow(seconds)
        storm.calm(app)
    with closing(open_store(patient)) as factory:
        store = factory.application_recorder()
        audits = {pool: audit_pool(store, f"workerPool:{pool}") for pool in POOLS}
    check(audits, storm.seen, report)
    return report


@contextmanager
def _wired(server: Server | None, url: str) -> Iterator[tuple[Wire | None, list[str]]]:
    """A wire to the server, and the URLs of workers and clients in turn: every second one of the
    workers, and one client, are on the wire."""
    if server is None:
        yield None, [url, url]
        return
    with wired(with_options(url, **PATIENT)) as (wire, wired_url):
        yield wire, [wired_url, with_options(url, **PATIENT), with_options(url, **IMPATIENT)]


class _Storm:
    def __init__(
        self,
        children: Children,
        folder: Path,
        rng: random.Random,
        report: PoolReport,
        server: Server | None,
        wire: Wire | None,
        urls: list[str],
        lease: str,
    ) -> None:
        self._children = children
        self._folder = folder
        self._rng = rng
        self._report = report
        self._server = server
        self._wire = wire
        self._urls = urls
        self._lease = lease
        self._workers: list[Child] = []
        self._clients: list[Child] = []
        self._started = 0
        self._over = Counter[int]()
        self.seen = Witnessed()

    def begin(self) -> None:
        for _ in range(WORKERS):
            self._start_worker()
        for number, url in enumerate((self._urls[0], self._urls[-1]), 1):
            seed = str(self._rng.randrange(1 << 30))
            self._clients.append(self._children.start("client", str(number), seed, url=url))
        for child in [*self._workers, *self._clients]:
            child.ready()

    def blow(self, seconds: float) -> None:
        began_s = now_s = time.monotonic()
        kill_s, cut_s = now_s + self._rng.uniform(*KILL_S), now_s
        turn_s = now_s + self._rng.uniform(*STAYS_S)
        while now_s < began_s + seconds:
            self._listen()
            now_s = time.monotonic()
            if now_s >= kill_s:
                self._kill_one()
                kill_s = now_s + self._rng.uniform(*KILL_S)
            if self._wire is not None and now_s >= cut_s:
                self._cut(self._wire)
                cut_s = now_s + self._rng.uniform(*CUT_S)
            if self._server is not None and now_s >= turn_s:
                self._turn(self._server)
                span = STAYS_S if self._server.is_running else AWAY_S
                turn_s = time.monotonic() + self._rng.uniform(*span)
        self._report.duration_s = round(now_s - began_s, 1)

    def calm(self, app: BlockingApp) -> None:
        """Clients end their calls, then all that was accepted comes to its end."""
        if self._server is not None and not self._server.is_running:
            self._server.start()
        began_s = time.monotonic()
        for client in self._clients:
            client.tell("over")
        while len(self._over) < CLIENTS:
            self._listen()
            assert time.monotonic() < began_s + PATIENCE_S, f"no answer: {self._logged()}"
        wait_until(lambda: _is_empty(app), self._workers[0], PATIENCE_S)
        self._report.calmed_s = round(time.monotonic() - began_s, 1)
        for worker in self._workers:
            worker.kill()
            self.seen.gone_us[worker.pid] = now_us()
        for file in self._folder.glob("*.notes"):
            self.seen.notes += [Noted.of(line) for line in file.read_text().splitlines()]
        self.seen.notes.sort(key=lambda noted: noted.at_us)

    def _listen(self) -> None:
        for client in self._clients:
            for line in client.lines_so_far():
                if line == "over":
                    self._over[client.pid] += 1
                else:
                    self.seen.asked.append(Asked.of(line))
        self._rng.choice(self._workers).line_if_any(LOOK_S / 2)

    def _start_worker(self) -> None:
        url = self._urls[self._started % 2]
        self._started += 1
        self._workers.append(
            self._children.start("worker", self._lease, str(self._folder), url=url)
        )

    def _kill_one(self) -> None:
        worker = self._workers.pop(self._rng.randrange(WORKERS))
        worker.kill()
        self.seen.gone_us[worker.pid] = now_us()
        self.seen.gone_at_us[worker.pid] = time.time_ns() // 1_000
        self._report.kills += 1
        self._start_worker()

    def _cut(self, wire: Wire) -> None:
        if not wire.is_to_be_cut:
            where: Where = self._rng.choice(("before", "after"))
            wire.cut_at(AN_EVENT, where, after=self._rng.randrange(UNCUT))
            self._report.cuts += 1

    def _turn(self, server: Server) -> None:
        if server.is_running:
            how = self._rng.choice(STOPS)
            server.stop(how)
            self._report.restarts[how] += 1
        else:
            server.start()

    def _logged(self) -> str:
        return "".join(line for child in self._clients for line in child.logged[-20:])


def _is_empty(app: BlockingApp) -> bool:
    """Whether nothing waits or is worked on."""
    found = [app.worker_pool(pool).status() for pool in POOLS]
    return not any(s.pending + s.delayed + s.retrying + s.processing for s in found)
