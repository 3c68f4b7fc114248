"""Two versions of some jobs, and their processes: `python -m tests.acceptance.jobs_in_outages`.

    worker URL VERSION AHEAD_S    works until its stdin ends
    client URL VERSION AHEAD_S NUMBER SEED IDS
                                  for each `call` sends or reads, and prints the `Call`; at the end
                                  of its stdin asks nothing again

Their clocks are AHEAD_S seconds ahead; a number on stdin sets them so many seconds on or back.
They understand the lines of `reopening`, and end when their stdin does. Runs print lines as those
of `jobs_under_kill` do, and `step` when a step's function is called.

Version 2 has another rule for what recurs, and knows a kind of chore that version 1 cannot read.
Its clients leave all events to the workers (`handlers=False`), and send that kind too: it
has to wait for code that can read it (K4).
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import time_machine

from tests.acceptance.jobs_under_kill import CANNOT_NOW, Chore, Done, now_us, say, told, why
from tests.acceptance.linearizable import Call
from tests.acceptance.reopening import Reopening
from wakelog import Continuous, ContinuousContext, Jobs, Task, TaskContext
from wakelog.jobs import Opening

__all__ = ["NEW", "OLD", "PULSES", "RARE_EVERY_S", "Version", "Versioned", "versions"]

Version = Literal["1", "2"]
OLD: Version = "1"
NEW: Version = "2"

PULSES = 3
"""How many instances there are of each recurring job."""
PULSE_EVERY_S = {"1": 2, "2": 3}
RARE_EVERY_S = {"1": 3600, "2": 1800}
WORK_S = (0.1, 1, 5, 20)
"""How long a run may take: some last as long as an outage."""
AFTER_S = (None, 0, 0, 1)
READS, KEYED = 0.3, 0.7
"""How many calls only read; how many of the others have a key."""
CALLERS = 6
PAUSE_S = 0.3
"""Between two calls of a caller, and between two tries."""


class OldChore(Chore):
    """As version 1 knows it."""

    kind: Literal["plain"] = "plain"


class NewChore(Chore):
    """As version 2 knows it."""

    kind: Literal["plain", "new"] = "plain"


class Versioned(NamedTuple):
    """The jobs as one version has them, and the kinds of chores that its clients send."""

    jobs: Jobs
    chore: Task[Done, Any]
    pulse: Continuous[int]
    rare: Continuous[int]
    kinds: tuple[str, ...]


async def _middle(ctx: TaskContext[Done] | ContinuousContext[int]) -> None:
    """A step, on the event loop: lines of two threads would be mixed."""
    say("step", ctx)


async def work(ctx: TaskContext[Done]) -> None:
    """Half of it before a step, half of it after it."""
    say("run", ctx)
    try:
        work_s = (ctx.state or Done()).work_s
        await asyncio.sleep(work_s / 2)
        await ctx.step("middle", _middle, ctx)
        await asyncio.sleep(work_s / 2)
        ctx.update_state(lambda done: done.model_copy(update={"runs": done.runs + 1}))
        say("end", ctx)
    finally:
        say("left", ctx)


async def beat(ctx: ContinuousContext[int]) -> None:
    say("run", ctx)
    try:
        await asyncio.sleep(0.2)
        await ctx.step("middle", _middle, ctx)
        await asyncio.sleep(0.2)
        ctx.set_state((ctx.state or 0) + 1)
        say("end", ctx)
    finally:
        say("left", ctx)


def _versioned(version: Version) -> Versioned:
    chore = Task(state=Done, event=OldChore if version == "1" else NewChore)
    chore.on_event(told)
    chore.execute(work)
    pulse = Continuous(state=int, every=PULSE_EVERY_S[version])
    rare = Continuous(state=int, every=RARE_EVERY_S[version])
    for each in (pulse, rare):
        each.execute(beat)
    jobs = Jobs(chore=chore, pulse=pulse, rare=rare)
    kinds = ("plain",) if version == "1" else ("plain", "new")
    return Versioned(jobs, chore, pulse, rare, kinds)


versions: dict[str, Versioned] = {"1": _versioned("1"), "2": _versioned("2")}


class _Clock(ExitStack):
    """The wall clock of this process, which can be set; not so the monotonic one."""

    def move(self, seconds: float) -> None:
        if seconds:
            self.enter_context(time_machine.travel(time.time() + seconds, tick=True))


async def worker(url: str, version: str, ahead_s: str) -> None:
    """With the default lease and timeouts."""
    with _Clock() as clock:
        clock.move(float(ahead_s))

        def opening() -> Opening:
            return versions[version].jobs.open(url, worker=True)

        async with Reopening(opening, lambda line: clock.move(float(line))) as process:
            await process.over()


async def client(url: str, version: str, ahead_s: str, *words: str) -> None:
    with _Clock() as clock:
        clock.move(float(ahead_s))

        def opening() -> Opening:
            return versions[version].jobs.open(url, handlers=version == "1")

        def hear(line: str) -> None:
            if line == "call":
                caller.tickets.release()
            else:
                clock.move(float(line))

        async with Reopening(opening, hear) as process:
            caller = _Caller(process, versions[version], *words)
            calling = asyncio.gather(*[caller.call_on() for _ in range(CALLERS)])
            await process.over(calling)
            caller.end()
            await calling


class _Caller:
    """Calls for each ticket, at most `CALLERS` at a time."""

    def __init__(
        self, process: Reopening, version: Versioned, number: str, seed: str, ids: str
    ) -> None:
        self._process = process
        self._version = version
        self._rng = random.Random(int(seed))
        self._ids = int(ids)
        self._numbers = iter(range(1_000_000 * int(number) + 1, 1_000_000 * (int(number) + 1)))
        self._is_ending = False
        self.tickets = asyncio.Semaphore(0)

    def end(self) -> None:
        """Begin no call, and ask nothing again."""
        self._is_ending = True
        for _ in range(CALLERS):
            self.tickets.release()

    async def call_on(self) -> None:
        rng = self._rng
        while await self.tickets.acquire() and not self._is_ending:
            id = f"c-{rng.randrange(self._ids)}"
            if rng.random() < READS:
                called = await self._read(id)
            else:
                called = await self._send(id, keyed=rng.random() < KEYED)
            print(called.line(), flush=True)
            await asyncio.sleep(PAUSE_S)

    async def _read(self, id: str) -> Call:
        asked_us = now_us()
        try:
            app = await self._process.app()
            status = await app.task(self._version.chore).status(id)
        except CANNOT_NOW as error:
            return Call(id, 0, asked_us, None, errors=(why(error),))
        return Call(id, 0, asked_us, now_us(), status.event_count)

    async def _send(self, id: str, *, keyed: bool) -> Call:
        """Send, with a key again and again until it is answered, without one once."""
        rng, number, asked_us = self._rng, next(self._numbers), now_us()
        event = {
            "number": number,
            "after_s": rng.choice(AFTER_S),
            "work_s": rng.choice(WORK_S),
            "kind": rng.choice(self._version.kinds),
        }
        key = str(number) if keyed else None
        errors: list[str] = []
        tries: list[tuple[int, int]] = []
        while not errors or (keyed and not self._is_ending):
            tried_us = now_us()
            try:
                app = await self._process.app()
                tried_us = now_us()
                sent = await app.task(self._version.chore).send(id, event, event_id=key)
            except CANNOT_NOW as error:
                errors.append(why(error))
                tries.append((tried_us, now_us()))
                await asyncio.sleep(PAUSE_S)
            else:
                answer = now_us(), sent.event_count
                return Call(id, number, asked_us, *answer, keyed, tuple(errors), tuple(tries))
        return Call(id, number, asked_us, None, None, keyed, tuple(errors), tuple(tries))


if __name__ == "__main__":
    asyncio.run((worker if sys.argv[1] == "worker" else client)(*sys.argv[2:]))
