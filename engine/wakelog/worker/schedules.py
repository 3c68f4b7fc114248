"""Schedules that are to be set anew: by a rule that has changed, or since a clock was ahead.

While workers with two rules of one job live, in a rolling deploy, the one that opened last decides
(C10): the others go on with their own rule for the runs that they end, and its sweeps set that
right. Once it has gone, those that are left do.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wakelog.application import Application
from wakelog.ports.rows import WorkerRow
from wakelog.worker.startup import PAGE, retime, retime_ahead, retime_page

__all__ = ["Schedules", "rules_of"]


def rules_of(app: Application, jobs: Sequence[str]) -> str:
    """The fingerprints of the rules of these jobs, as a worker's row has them."""
    rules = {each.job: each.behaviour().rule for each in app.registry if each.job in jobs}
    return msgspec.json.encode({job: rule for job, rule in rules.items() if rule}).decode()


class Schedules:
    """The sweeps of one worker over the schedules of its jobs. Used on its event loop."""

    def __init__(
        self, app: Application, jobs: Sequence[str], worker: str, opened_us: int, rules: str
    ) -> None:
        """`rules` is what the row of `worker`, which opened at `opened_us`, says of its rules."""
        self._app = app
        self._jobs = jobs
        self._me = opened_us, worker
        self._mine = _read(rules)
        self._contested: frozenset[str] = frozenset()
        """The jobs for which another worker had another rule when it was last looked."""
        self._turns = list(self._mine)
        self._pages: dict[str, str] = {}
        """Where the next look at the instances of a job goes on."""

    async def open(self) -> int:
        """Set all schedules of the jobs anew that need it: this worker has opened last. Answers how
        many did, each of which was recorded; slow for many instances, since each is looked at."""
        self._contested = self._now_contested(await self._rows())
        count = await retime_ahead(self._app, self._jobs)
        return count + await retime(self._app, tuple(self._mine))

    async def sweep(self) -> int:
        """As `open`, for the jobs whose rule this worker decides: all instances of those for which
        another worker has another rule, or had one at the last sweep, and some of the others."""
        rows = await self._rows()
        count = await retime_ahead(self._app, self._jobs)
        contested, before = self._now_contested(rows), self._contested
        self._contested = contested
        mine = [job for job in self._turns if self._decides(job, rows)]
        disputed = [job for job in mine if job in contested or job in before]
        count += await retime(self._app, disputed)
        return count + await self._some([job for job in mine if job not in disputed])

    async def _some(self, jobs: Sequence[str]) -> int:
        """Look at the next `PAGE` instances of these jobs, which take turns: a worker that has come
        and gone between two sweeps may have had another rule."""
        count, left = 0, PAGE
        for job in jobs:
            page = await retime_page(self._app, job, self._pages.pop(job, None), left)
            count, left = count + page.number, left - page.seen
            if page.last is not None:
                self._pages[job] = page.last
            self._turns.remove(job)
            self._turns.append(job)
            if left <= 0:
                break
        return count

    async def _rows(self) -> Sequence[WorkerRow]:
        return await self._app.threads.read(self._app.store.workers, self._app.clock.now_us())

    def _now_contested(self, rows: Sequence[WorkerRow]) -> frozenset[str]:
        rules = [_read(row.rules) for row in rows]
        return frozenset(
            job for job, mine in self._mine.items() if any(r.get(job, mine) != mine for r in rules)
        )

    def _decides(self, job: str, rows: Sequence[WorkerRow]) -> bool:
        """Whether the living worker that opened last, of those that know the job, has the rule of
        this one."""
        opened = [(row.started_us, row.worker, _read(row.rules).get(job)) for row in rows]
        known = [(us, worker, rule) for us, worker, rule in opened if rule]
        *_, rule = max([*known, (*self._me, self._mine[job])])
        return rule == self._mine[job]


def _read(rules: str) -> dict[str, str]:
    """None of a row that something else has changed."""
    try:
        return msgspec.json.decode(rules, type=dict[str, str])
    except (ValueError, RecursionError):  # msgspec's errors are `ValueError`s
        return {}
