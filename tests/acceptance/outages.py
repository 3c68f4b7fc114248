"""A storm of long outages at default settings, under workers of two versions that are deployed.

`storm_of_outages(store, …)` runs workers and clients with the default lease and timeouts. Meanwhile
the store goes away for 10 to 60 s, clocks are stepped, workers are suspended, killed and replaced
by those of the other version, a file is moved or replaced, and there are `troubles`. Then
`outage_audits` holds what the processes printed against what is recorded.
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.acceptance.jobs_in_outages import NEW, OLD, PULSES, Version, versions
from tests.acceptance.jobs_under_kill import now_us
from tests.acceptance.linearizable import Call
from tests.acceptance.outage_audits import Seen
from tests.acceptance.outage_stores import AwayFile, AwayServer, AwayStore
from tests.acceptance.processes import LOOK_S, Child, Children, Said
from tests.acceptance.troubles import Pace, Troubles
from wakelog import BlockingApp

__all__ = ["JOBS", "Storm", "Worker"]

JOBS = "tests.acceptance.jobs_in_outages"
INSTANCES = 16
CALLS = 10
"""How many calls a client may still owe."""
CLOCK_STEPS_S = (-3600, -60, 60, 3600)
SURELY_DUE_S = 3 * 3600
"""By so much a clock is set on at the end: then all is due that a clock ahead has scheduled."""
POSTPONED_S = 2.0
PATIENCE_S = 180.0
"""How long processes may take to end, and all to come to rest afterwards."""

# How long each act lasts, and from its end to the next of its kind.
AWAY_S, STAYS_S = (10, 60), (15, 40)
WRONG_S, RIGHT_S = (3, 10), (5, 20)
ASLEEP_S, AWAKE_S = (10, 60), (10, 30)
MOVED_S, IN_PLACE_S = (2, 8), (20, 50)
KILL_S, DEPLOY_S, REPLACE_ONE_S = (20, 60), (10, 30), (2, 6)
PACE = Pace(answers_s=(10, 30), silent_s=(3, 8), starts_s=(5, 20), starves_s=(2, 8))
"""No lease ends in a silence, which is why it lasts until no app is closed."""
GRACE_S, TIMEOUT_S = 30, 5
"""The defaults."""
TRY_S = 30.0
"""How long a call may take, behind an append, if each of its waits lasts for `TIMEOUT_S`."""


@dataclass(eq=False)
class Worker:
    child: Child
    url: str
    version: Version
    asleep_from_us: int | None = None


class Storm:
    """Begin, blow, calm down."""

    def __init__(
        self,
        store: AwayStore,
        children: Children,
        rng: random.Random,
        seen: Seen,
    ) -> None:
        """Fills `seen`."""
        self._store = store
        self._children = children
        self._rng = rng
        self._numbers = itertools.count(1)
        self._workers: list[Worker] = []
        self._clients: list[Child] = []
        self._leaving: list[Child] = []
        self._opening: set[int] = set()
        """Which processes have not said that they are ready."""
        self._owed: Counter[int] = Counter()
        self._turns: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._to_deploy: list[Worker] = []
        self._target: Version = OLD
        self._away_from_s: float | None = None
        self._ahead_s = 0
        """By how much the clock of the one machine is wrong."""
        self._is_moved = False
        self._is_over = False
        self._first: Callable[[], None] | None = None
        """An act for which all others wait."""
        self.troubles = Troubles(
            rng,
            store.wire,
            timeout_s=TIMEOUT_S,
            grace_s=GRACE_S,
            pace=PACE,
            try_s=TRY_S,
            waits=("away",),
        )
        seen.troubled, seen.closes = self.troubles.report, self.troubles.closes
        self.seen = seen

    def begin(self, app: BlockingApp) -> None:
        for url in self._store.workers:
            self._start_worker(url, OLD)
        self._start_clients()
        self._await(lambda: not self._opening)
        if isinstance(self._store, AwayServer):
            owner = self._store.owner
            self._await(lambda: self.troubles.has_sessions(owner))
        for number in range(PULSES):
            app.continuous(versions[NEW].pulse).start(f"p-{number}", 0, wait=False)
            app.continuous(versions[NEW].rare).start(f"r-{number}", 0, wait=False)

    def blow(self, seconds: float) -> None:
        self.troubles.begin()
        self._later(STAYS_S, self._stop)
        self._later(RIGHT_S, self._step)
        self._later(AWAKE_S, self._suspend)
        self._later(KILL_S, self._kill_one)
        self._later(DEPLOY_S, self._deploy)
        if isinstance(self._store, AwayFile):
            self._later(IN_PLACE_S, self._move)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._listen()
            for client in self._clients:
                self._tell_to_call(client, CALLS - self._owed[client.pid])
            self._trouble()
            while self._turns[0][0] <= time.monotonic():
                heapq.heappop(self._turns)[2]()

    def _trouble(self) -> None:
        """None begins while another act waits for all to hear what they are told."""
        is_free = self._first is None and not self._is_moved
        if is_free:
            self.troubles.turn(self._clients, self._awake())
        else:
            self.troubles.turn([], [])
        self._opening |= self.troubles.closing

    def _awake(self) -> list[Child]:
        return [each.child for each in self._workers if each.asleep_from_us is None]

    def calm(self, app: Callable[[], BlockingApp], is_quiet: Callable[[BlockingApp], bool]) -> None:
        """Undo what was done, deploy version 2 to all, let whatever was begun come to its end."""
        self._is_over = True
        self.seen.note("calm", counts=False)
        while self._turns:
            heapq.heappop(self._turns)[2]()
        self.troubles.end()
        self._await(lambda: self.troubles.are_over)
        for worker in [each for each in self._workers if each.version == OLD]:
            self._replace_one(worker, NEW)
        self._await(lambda: not self._opening and not self._leaving)
        for client in self._clients:
            self._tell_to_call(client, CALLS)
        self._await(lambda: not self._owed.total())
        opened = app()
        for number in range(PULSES):
            opened.continuous(versions[NEW].pulse).stop(f"p-{number}")
            opened.continuous(versions[NEW].rare).stop(f"r-{number}")
        self._await(lambda: not any(row.executing for row in opened.list()))
        self._set_clocks(self._of_one_clock(self._workers[0]), SURELY_DUE_S)
        self.seen.note(f"clock: {SURELY_DUE_S:+} s", self._workers[0].child.pid)
        self._await(lambda: is_quiet(opened))
        for worker in self._workers:
            self._end(worker.child, worker.child.kill())

    # -- processes ---------------------------------------------------------------------------------

    def _start_worker(self, url: str, version: Version) -> None:
        child = self._children.start("worker", version, str(self._ahead_s), url=url)
        self._workers.append(Worker(child, url, version))
        self._opening.add(child.pid)
        if url == self._store.workers[0]:
            self.troubles.on_wire.add(child.pid)

    def _start_clients(self) -> None:
        """One of each version."""
        for url, version in zip(self._store.clients, (OLD, NEW), strict=True):
            number, seed = str(next(self._numbers)), str(self._rng.randrange(1 << 30))
            words = (version, str(self._ahead_s), number, seed, str(INSTANCES))
            child = self._children.start("client", *words, url=url)
            self._clients.append(child)
            self._opening.add(child.pid)
        self.troubles.impatient = self._clients[0]
        self.troubles.on_wire.add(self._clients[0].pid)

    def _tell_to_call(self, client: Child, calls: int) -> None:
        assert not client.has_ended, f"client {client.pid} has ended: {''.join(client.logged)}"
        for _ in range(calls):
            client.tell("call")
            self._owed[client.pid] += 1

    def _leave(self, child: Child) -> None:
        child.finish()
        self.troubles.forget(child)
        self._leaving.append(child)
        self.seen.note("told to end", child.pid, counts=False)
        self._owed.pop(child.pid, None)

    def _end(self, child: Child, lines: Sequence[str]) -> None:
        self._hear(child, lines)
        self.troubles.forget(child)
        self._opening.discard(child.pid)
        self.seen.gone_us[child.pid] = now_us()
        self.seen.note("ended", child.pid, counts=False)

    def _listen(self) -> None:
        for child in [*self._clients, *self._leaving, *[each.child for each in self._workers]]:
            self._hear(child, child.lines_so_far())
        for child in [each for each in self._leaving if each.has_ended]:
            self._leaving.remove(child)
            code, lines = child.ended(), child.kill()
            assert code == 0, f"process {child.pid} ended with {code}: {''.join(child.logged)}"
            self._end(child, lines)
        worker = self._rng.choice(self._workers).child
        awaited = worker.line_if_any(LOOK_S)
        self._hear(worker, [] if awaited is None else [awaited])

    def _hear(self, child: Child, lines: Sequence[str]) -> None:
        for line in lines:
            if self.troubles.has_heard(child, line):
                self.seen.note(line, counts=False)
                if line.startswith("ready "):
                    self._opening.discard(child.pid)
            elif line.startswith("["):
                self.seen.calls.append(Call.of(line))
                self._owed[child.pid] -= child in self._clients
            else:
                self.seen.notes.append(Said.of(line))

    def _await(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            self._listen()
            if self._is_over:
                self.troubles.turn([], [])
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {PATIENCE_S} s: {self._logged()}")

    def _logged(self) -> str:
        children = [*[each.child for each in self._workers], *self._clients, *self._leaving]
        return "".join(f"{child.pid}: {line}" for child in children for line in child.logged[-5:])

    # -- turns -------------------------------------------------------------------------------------

    def _later(self, within_s: tuple[float, float], act: Callable[[], None]) -> None:
        at_s = time.monotonic() + self._rng.uniform(*within_s)
        heapq.heappush(self._turns, (at_s, next(self._order), act))

    def _may(self, act: Callable[[], None], *, if_: bool = True, first: bool = False) -> bool:
        """Whether `act` may begin now; else it is put off, and with `first` all others with it.

        Nothing begins while a file is moved: a process that is started then would make a new one.
        """
        if self._is_over:
            return False
        if not if_ or self._is_moved or self._first not in (None, act):
            if first and self._first is None:
                self._first = act
            self._later((POSTPONED_S, POSTPONED_S), act)
            return False
        self._first = None
        return True

    @property
    def _is_settled(self) -> bool:
        """Whether all processes are there and hear what they are told."""
        asleep = any(each.asleep_from_us for each in self._workers)
        return not asleep and not self._opening and not self._leaving

    def _stop(self) -> None:
        if self._may(self._stop):
            self._away_from_s = time.monotonic()
            self.seen.note(f"outage: {self._store.stop(self._rng)}")
            self.troubles.away(self._clients, self._awake())
            self._later(AWAY_S, self._start)

    def _start(self) -> None:
        assert self._away_from_s is not None
        if not self.troubles.may_return() and not self._is_over:
            self._later((POSTPONED_S, POSTPONED_S), self._start)
            return
        self._store.start()
        self.troubles.back()
        self.seen.note("back", counts=False)
        self.seen.away_s += time.monotonic() - self._away_from_s
        self.seen.back_us = now_us()
        self._away_from_s = None
        self._later(STAYS_S, self._stop)

    def _step(self) -> None:
        """Step a clock: a worker's, or that of the one machine on which all are."""
        is_common = self._store.is_of_one_machine
        if self._may(self._step, if_=self._is_settled or not is_common, first=is_common):
            worker, seconds = self._rng.choice(self._workers), self._rng.choice(CLOCK_STEPS_S)
            self._set_clocks(self._of_one_clock(worker), seconds)
            self.seen.note(f"clock: {seconds:+} s", worker.child.pid)
            self._later(WRONG_S, partial(self._step_back, worker, seconds))

    def _step_back(self, worker: Worker, seconds: int) -> None:
        if worker in self._workers or self._store.is_of_one_machine:
            self._set_clocks(self._of_one_clock(worker), -seconds)
            self.seen.note("clock is right", worker.child.pid, counts=False)
        self._later(RIGHT_S, self._step)

    def _of_one_clock(self, worker: Worker) -> list[Child]:
        if self._store.is_of_one_machine:
            return [*[each.child for each in self._workers], *self._clients]
        return [worker.child]

    def _set_clocks(self, children: Sequence[Child], seconds: int) -> None:
        if self._store.is_of_one_machine:
            self._ahead_s += seconds
        for child in children:
            child.tell(str(seconds))

    def _suspend(self) -> None:
        awake = [
            each
            for each in self._workers
            if each.asleep_from_us is None and self.troubles.may_kill(each.child)
        ]
        if self._may(self._suspend, if_=bool(awake) and not self._ahead_s):
            worker = self._rng.choice(awake)
            worker.child.signal(signal.SIGSTOP)
            worker.asleep_from_us = now_us()
            self.seen.note("suspended", worker.child.pid)
            self._later(ASLEEP_S, partial(self._resume, worker))

    def _resume(self, worker: Worker) -> None:
        if worker.asleep_from_us is not None:
            worker.child.signal(signal.SIGCONT)
            self._note_sleep(worker)
            self.seen.note("resumed", worker.child.pid, counts=False)
        self._later(AWAKE_S, self._suspend)

    def _note_sleep(self, worker: Worker) -> None:
        if worker.asleep_from_us is not None:
            self.seen.sleeps.append((worker.child.pid, worker.asleep_from_us, now_us()))
            worker.asleep_from_us = None

    def _kill_one(self) -> None:
        if self._may(self._kill_one):
            worker = self._rng.choice(self._workers)
            self._kill(worker)
            self._start_worker(worker.url, worker.version)
            self._later(KILL_S, self._kill_one)

    def _kill(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._end(worker.child, worker.child.kill())
        self._note_sleep(worker)
        self.seen.note("kill", worker.child.pid)

    def _deploy(self) -> None:
        """Begin to replace all workers by those of the other version."""
        if self._may(self._deploy):
            self._target = NEW if self._target == OLD else OLD
            self._to_deploy = self._rng.sample(self._workers, len(self._workers))
            self.seen.note(f"deploy of version {self._target}")
            self._deploy_one()

    def _deploy_one(self) -> None:
        self._to_deploy = [
            each
            for each in self._to_deploy
            if each in self._workers and each.version != self._target
        ]
        if not self._to_deploy:
            if not self._is_over:
                self._later(DEPLOY_S, self._deploy)
        elif self._may(self._deploy_one, if_=not self._ahead_s):
            awake = [each for each in self._to_deploy if each.asleep_from_us is None]
            if awake:
                self._replace_one(awake[0], self._target)
            self._later(REPLACE_ONE_S, self._deploy_one)

    def _replace_one(self, worker: Worker, version: Version) -> None:
        self._start_worker(worker.url, version)
        self._workers.remove(worker)
        self._leave(worker.child)

    # -- the file ----------------------------------------------------------------------------------

    def _move(self) -> None:
        """Away, and back again; or put a copy in its place, and start all anew on that."""
        file = self._store
        assert isinstance(file, AwayFile)
        is_quiet = self._is_settled and not self._ahead_s and self._away_from_s is None
        if not self._may(self._move, if_=is_quiet, first=True):
            return
        if self._rng.random() < 0.5:
            self._replace(file)
            self._later(IN_PLACE_S, self._move)
        else:
            file.move_away()
            self._is_moved = True
            self.seen.note("file moved")
            self._later(MOVED_S, partial(self._put_back, file))

    def _put_back(self, file: AwayFile) -> None:
        file.put_back()
        self.seen.note("put back", counts=False)
        self._is_moved = False
        self.seen.back_us = now_us()
        self._later(IN_PLACE_S, self._move)

    def _replace(self, file: AwayFile) -> None:
        file.replace()
        self.seen.note("file replaced")
        before = list(self._workers)
        for client in self._clients:
            self._leave(client)
        self._clients = []
        for worker in before:
            if self._rng.random() < 0.5:
                self._kill(worker)
            else:
                self._workers.remove(worker)
                self._leave(worker.child)
        for child in self._leaving:
            child.ended(PATIENCE_S)
        file.remove_the_old()
        self.seen.back_us = now_us()
        for worker in before:
            self._start_worker(worker.url, worker.version)
        self._start_clients()
