"""A process with one library open: each line of its input is a command, and gets an answer.

    python -m tests.bench.peers.child pgqueuer-10 postgresql://…

Its standard output is for answers alone: what libraries print goes to its error output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TextIO

from tests.bench.peers.protocol import Make, Peer

__all__ = ["OURS", "PEERS", "main"]

PEERS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "wakelog": ("with_wakelog", ()),
    "pool": ("with_pool", ("async def",)),
    "pool-def": ("with_pool", ("def",)),
    "pgqueuer-10": ("with_pgqueuer", (10,)),
    "pgqueuer-100": ("with_pgqueuer", (100,)),
    "procrastinate": ("with_procrastinate", ()),
    "dbos": ("with_dbos", ()),
    "absurd": ("with_absurd", ()),
    "awa": ("with_awa", ()),
}
"""The module that opens it, and with what."""
OURS = ("wakelog", "pool", "pool-def")
"""Those that run in wakelog's own environment."""


def main(name: str, url: str) -> None:
    """Open the library, and answer until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, given = PEERS[name]
    make = import_module(f"tests.bench.peers.{module}").make
    asyncio.run(_answer(make(*given) if given else make, url, answers))


class _Runs:
    """The moments at which jobs began, by `time.perf_counter`: one clock for all processes."""

    def __init__(self) -> None:
        self.began_s: list[float] = []
        self.report: Callable[[float], None] | None = None

    def one(self) -> None:
        """A job has begun, in whatever thread."""
        now_s = time.perf_counter()
        self.began_s.append(now_s)
        if self.report is not None:
            self.report(now_s)


async def _answer(make: Make, url: str, answers: TextIO) -> None:
    runs = _Runs()

    def say(answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")

    async with make(url, runs.one) as peer:
        say("open")
        numbers = iter(range(sys.maxsize))
        while line := await asyncio.to_thread(sys.stdin.readline):
            said, *given = json.loads(line)
            if said == "prepare":
                await peer.prepare()
                say("prepared")
            elif said == "send":
                say(await _sent(peer, numbers, *given))
            elif said == "send_batches":
                say(await _sent_in_batches(peer, numbers, *given))
            elif said == "drain":
                say(await _drained(peer, runs, *given))
            elif said == "work":
                runs.report = say
                async with peer.working():
                    say("working")
                    await asyncio.to_thread(sys.stdin.readline)
                say("idle")
            else:
                raise ValueError(f"no such command: {said}")


async def _sent(peer: Peer, numbers: Iterator[int], count: int, in_flight: int) -> list[float]:
    """Send so many, so many at a time; answer when that began and ended."""
    mine = iter([next(numbers) for _ in range(count)])

    async def sender() -> None:
        for number in mine:
            await peer.send(number)

    began_s = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(in_flight)))
    return [began_s, time.perf_counter()]


async def _sent_in_batches(
    peer: Peer, numbers: Iterator[int], count: int, size: int
) -> list[float] | None:
    """Send so many, so many with each call; nothing if there is no such call."""
    mine = [next(numbers) for _ in range(count)]
    batches = [mine[first : first + size] for first in range(0, count, size)]
    began_s = time.perf_counter()
    try:
        for batch in batches:
            await peer.send_batch(batch)
    except NotImplementedError:
        return None
    return [began_s, time.perf_counter()]


async def _drained(peer: Peer, runs: _Runs, count: int) -> list[float]:
    """Work until all is done; answer when the first job began, and when all was recorded.

    Raises `AssertionError` where a job did not run once.
    """
    await peer.drain(count)
    ended_s = time.perf_counter()
    left = await peer.unfinished()
    if left or len(runs.began_s) != count:
        raise AssertionError(f"{len(runs.began_s)} runs of {count} jobs, {left} not done")
    return [runs.began_s[0], ended_s]


if __name__ == "__main__":
    main(*sys.argv[1:])
