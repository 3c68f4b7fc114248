"""wakelog beside its peers, in turn on one PostgreSQL server, in one table.

    make bench-peers ARGS="--peers pgqueuer-10,awa --rounds 1"
    make bench-peers ARGS="--peers pool,pgqueuer-100 --events 10000"     # W4

Each figure stands with its ratio: wakelog's of the same round by the peer's (for the pick-up, which
is better the shorter it is, the peer's by wakelog's), so that more than 1 is in favour of wakelog.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from tests.bench import machine
from tests.bench.peers.child import PEERS
from tests.bench.peers.compare import Figures, Sizes, measured
from tests.bench.peers.compare_pools import BATCH, PoolFigures, PoolSizes, measured_as_pool
from tests.bench.peers.process import INSTALLED, PYTHON
from tests.bench.peers.table import Column, as_markdown
from tests.bench.storage import PostgresStorage
from tests.support_postgres import a_server

__all__ = ["COLUMNS", "POOL_COLUMNS", "main"]

F = TypeVar("F")

COLUMNS: tuple[Column[Figures], ...] = (
    Column("one at a time, /s", lambda each: each.alone),
    Column("many at a time, /s", lambda each: each.in_flight),
    # wakelog puts calls of the same moment into one batch itself
    Column("in batches, /s", lambda each: each.batches, instead=lambda each: each.in_flight),
    Column("drain, /s", lambda each: each.drain),
    Column("pick-up, ms", lambda each: each.pick_up_ms, shorter=True),
)
POOL_COLUMNS: tuple[Column[PoolFigures], ...] = (
    Column(f"enqueue in batches of {BATCH}, /s", lambda each: each.batches),
    Column("completions, /s", lambda each: each.completions),
    Column("pick-up p50, ms", lambda each: each.pick_up_ms, shorter=True),
)
POOLS = ("pool", "pool-def")
"""Those with which the comparison is W4's."""
QUICK = Sizes(alone=5, in_flight=20, batches=20, due=20, pick_ups=1, calm_s=0.0)
QUICK_POOL = PoolSizes(events=40, pick_ups=1, calm_s=0.0)


def main(args: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for; print the table."""
    given = _parser().parse_args(args)
    if not INSTALLED:
        raise SystemExit("the peers are not installed; run: make bench-peers")
    with tempfile.TemporaryDirectory(prefix="wakelog-peers-", dir=given.folder) as temporary:
        folder = Path(temporary)
        facts = {"commit": machine.commit(), **machine.describe(folder), "peers": _versions()}
        with a_server(safe=True, folder=folder) as server:
            with closing(PostgresStorage(server)) as storage:
                facts["server"] = storage.settings()
            compare = _as_pools if set(given.peers) & set(POOLS) else _as_jobs
            table, found = compare(given, server, facts)
    print(table, end="")
    if given.json:
        given.json.write_text(json.dumps({**facts, "rounds": found}, indent=2) + "\n")


_Found = tuple[str, dict[str, list[dict[str, float | None]]]]
"""The table, and each round of each library."""


def _as_jobs(given: argparse.Namespace, server: str, facts: dict[str, str]) -> _Found:
    """A Task of wakelog beside the peers."""
    names = ["wakelog", *(name for name in given.peers if name != "wakelog")]
    sizes = QUICK if given.quick else Sizes().times(given.share)
    rounds = asyncio.run(_rounds(names, given.rounds, lambda name: measured(name, server, sizes)))
    _conclude(facts, sizes)
    return as_markdown(facts, COLUMNS, rounds), _dicts(rounds)


def _as_pools(given: argparse.Namespace, server: str, facts: dict[str, str]) -> _Found:
    """A WorkerPool beside the peers: W4."""
    names = sorted(given.peers, key=lambda name: name not in POOLS)
    usual = QUICK_POOL if given.quick else PoolSizes()
    sizes = replace(usual, events=given.events or usual.events, pinned=given.pinned)
    rounds = asyncio.run(
        _rounds(names, given.rounds, lambda name: measured_as_pool(name, server, sizes))
    )
    _conclude(facts, sizes)
    return as_markdown(facts, POOL_COLUMNS, rounds), _dicts(rounds)


async def _rounds(
    names: Sequence[str], rounds: int, measure: Callable[[str], Awaitable[F]]
) -> dict[str, list[F]]:
    """All in turn, so often."""
    found: dict[str, list[F]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(await measure(name))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def _conclude(facts: dict[str, str], sizes: Sizes | PoolSizes) -> None:
    facts |= {"sizes": str(asdict(sizes)), "load at the end": machine.load()}


def _dicts(
    rounds: Mapping[str, Sequence[Figures | PoolFigures]],
) -> dict[str, list[dict[str, float | None]]]:
    return {name: [asdict(each) for each in figures] for name, figures in rounds.items()}


def _versions() -> str:
    """What is installed for the peers."""
    names = ("pgqueuer", "asyncpg", "procrastinate", "dbos", "absurd-sdk", "awa-pg")
    said = f"*(f'{{name}} {{version(name)}}' for name in {names})"
    asked = f"from importlib.metadata import version; print({said}, sep=', ')"
    done = subprocess.run([PYTHON, "-c", asked], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _peers(text: str) -> list[str]:
    asked = text.split(",")
    for name in asked:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer {name!r}; there are: {', '.join(PEERS)}")
    return asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare.", allow_abbrev=False)
    jobs = [name for name in PEERS if name not in POOLS]
    what = f"of {', '.join(PEERS)}; with {' or '.join(POOLS)} the comparison is W4's"
    parser.add_argument("--peers", type=_peers, default=jobs, help=what)
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn; medians count")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual numbers of jobs")
    parser.add_argument("--events", type=int, help="of W4: how many (10,000)")
    pinned = "of W4: hold a snapshot open that is older than the events"
    parser.add_argument("--pinned", action="store_true", help=pinned)
    parser.add_argument("--quick", action="store_true", help="a few jobs: only to see that it runs")
    parser.add_argument("--folder", type=Path, help="where files are written; its disk counts")
    parser.add_argument("--json", type=Path, help="write the figures of each round there too")
    return parser


if __name__ == "__main__":
    main()
