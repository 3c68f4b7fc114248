"""wakelog beside its peers, in turn on one PostgreSQL server, in one table.

    make bench-peers ARGS="--peers pgqueuer-10,awa --rounds 1"

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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from statistics import median

from tests.bench import machine
from tests.bench.peers.child import PEERS
from tests.bench.peers.compare import Figures, Sizes, measured
from tests.bench.peers.process import INSTALLED, PYTHON
from tests.bench.storage import PostgresStorage
from tests.support_postgres import a_server

__all__ = ["as_markdown", "main"]

Rounds = Mapping[str, Sequence[Figures]]

COLUMNS: tuple[tuple[str, Callable[[Figures], float | None]], ...] = (
    ("one at a time, /s", lambda each: each.alone),
    ("many at a time, /s", lambda each: each.in_flight),
    ("in batches, /s", lambda each: each.batches),
    ("drain, /s", lambda each: each.drain),
    ("pick-up, ms", lambda each: each.pick_up_ms),
)
QUICK = Sizes(alone=5, in_flight=20, batches=20, due=20, pick_ups=1, calm_s=0.0)


def main(args: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for; print the table."""
    given = _parser().parse_args(args)
    if not INSTALLED:
        raise SystemExit("the peers are not installed; run: make bench-peers")
    names = ["wakelog", *(name for name in given.peers if name != "wakelog")]
    sizes = QUICK if given.quick else Sizes().times(given.share)
    with tempfile.TemporaryDirectory(prefix="wakelog-peers-", dir=given.folder) as temporary:
        folder = Path(temporary)
        facts = {"commit": machine.commit(), **machine.describe(folder), "peers": _versions()}
        with a_server(safe=True, folder=folder) as server:
            with closing(PostgresStorage(server)) as storage:
                facts["server"] = storage.settings()
            rounds = asyncio.run(_rounds(names, server, sizes, given.rounds))
    facts |= {"sizes": str(asdict(sizes)), "load at the end": machine.load()}
    print(as_markdown(facts, rounds), end="")
    if given.json:
        found = {name: [asdict(each) for each in figures] for name, figures in rounds.items()}
        given.json.write_text(json.dumps({**facts, "rounds": found}, indent=2) + "\n")


async def _rounds(names: Sequence[str], server: str, sizes: Sizes, rounds: int) -> Rounds:
    """All in turn, so often."""
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(await measured(name, server, sizes))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def as_markdown(facts: Mapping[str, str], rounds: Rounds) -> str:
    """The facts, then a line for each library: medians, and medians of the rounds' own ratios."""
    said = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    head = "".join(f" | {title} | ratio" for title, _ in COLUMNS)
    rule = "|---" + "|---:" * (2 * len(COLUMNS)) + "|"
    lines = [f"\n{said}\n", f"| library{head} |", rule]
    for name, figures in rounds.items():
        cells = [cell for title, of in COLUMNS for cell in _cells(title, of, figures, rounds)]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines) + "\n"


def _cells(
    title: str,
    of: Callable[[Figures], float | None],
    figures: Sequence[Figures],
    rounds: Rounds,
) -> tuple[str, str]:
    """A figure and its ratio."""
    ratios: list[float] = []
    values: list[float] = []
    for theirs, ours in zip(figures, rounds["wakelog"], strict=True):
        value, own = of(theirs), of(ours)
        if own is None:
            own = ours.in_flight  # wakelog puts calls of the same moment into one batch itself
        if value is not None:
            values.append(value)
            ratios.append(value / own if title.startswith("pick-up") else own / value)
    if not values:
        return "", ""
    value = median(values)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}", f"{median(ratios):.2f}"


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
    parser.add_argument("--peers", type=_peers, default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn; medians count")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual numbers of jobs")
    parser.add_argument("--quick", action="store_true", help="a few jobs: only to see that it runs")
    parser.add_argument("--folder", type=Path, help="where files are written; its disk counts")
    parser.add_argument("--json", type=Path, help="write the figures of each round there too")
    return parser


if __name__ == "__main__":
    main()
