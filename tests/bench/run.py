"""The benchmarks: run them, and write one table.

    python tests/bench/run.py --workloads send,alarms --stores sqlite --json figures.json

Each figure stands beside a floor measured in the same minute where the workload writes; see
`sqlite_floor` and `postgres_floor`. Without a floor are the memory store, which writes nothing, and
what only reads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import (
    cold,
    drain,
    hot,
    machine,
    pools,
    reads,
    report,
    send,
    simulated,
    steady,
    workers,
)
from tests.bench.measuring import Plan, Row
from tests.bench.storage import STORES, MemoryStorage, Storage, storage

__all__ = ["WORKLOADS", "main"]


def _alarms(plan: Plan) -> Iterator[Row]:
    yield from drain.measure(plan)
    yield from steady.measure(plan)


WORKLOADS: dict[str, tuple[str, Callable[[Plan], Iterator[Row]]]] = {
    "send": ("W1", send.measure),
    "hot": ("W2", hot.measure),
    "alarms": ("W3", _alarms),
    "pool": ("W4", pools.measure),
    "cold": ("W5", cold.measure),
    "simulation": ("W7", simulated.measure),
    "reads": ("W8", reads.measure),
    "workers": ("W10", workers.measure),
}
STORELESS = ("simulation",)
"""Measured once, on the memory store, whatever `--stores` says."""
QUICK = 0.1
SECONDS = 5.0


def main(args: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for. Prints each line as soon as it is known."""
    given = _parser().parse_args(args)
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="wakelog-bench-", dir=given.folder)
        folder = Path(stack.enter_context(temporary))
        storages = {name: stack.enter_context(storage(name, folder)) for name in given.stores}
        rows, facts = _measured(given, folder, storages)
    if given.json:
        given.json.write_text(report.as_json(facts, rows), encoding="utf-8")
    if given.markdown:
        given.markdown.write_text(report.as_markdown(facts, rows), encoding="utf-8")


def _measured(
    given: argparse.Namespace, folder: Path, storages: Mapping[str, Storage]
) -> tuple[list[Row], dict[str, str]]:
    facts = {"commit": machine.commit(), **machine.describe(folder)}
    facts |= {f"store {name}": each.settings() for name, each in storages.items()}
    print(report.as_markdown(facts, []), end="", flush=True)
    rows: list[Row] = []
    for name in given.workloads:
        for each in (MemoryStorage(),) if name in STORELESS else storages.values():
            plan = Plan(
                storage=each,
                rounds=given.rounds,
                sizes=given.sizes,
                share=QUICK if given.quick else 1.0,
                seconds=SECONDS * (QUICK if given.quick else 1.0),
            )
            for row in WORKLOADS[name][1](plan):
                rows.append(row)
                print(report.line(row), flush=True)
    return rows, facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure wakelog.", allow_abbrev=False)
    parser.add_argument(
        "--workloads",
        type=_workloads,
        default=list(WORKLOADS),
        help=f"some of: {', '.join(f'{n} ({w})' for n, (w, _) in WORKLOADS.items())}",
    )
    parser.add_argument("--stores", type=_stores, default=list(STORES), help=", ".join(STORES))
    parser.add_argument("--rounds", type=int, default=3, help="of each case; the median counts")
    parser.add_argument("--sizes", type=_sizes, help="how many sends, alarms, events or reads")
    parser.add_argument("--quick", action="store_true", help="a tenth of the usual sizes")
    parser.add_argument("--folder", type=Path, help="where files are written; its disk counts")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    return parser


def _workloads(text: str) -> list[str]:
    names = {number.lower(): name for name, (number, _) in WORKLOADS.items()}
    asked = [names.get(each.lower(), each.lower()) for each in text.split(",")]
    return _known(asked, WORKLOADS, "workload")


def _stores(text: str) -> list[str]:
    return _known(text.split(","), STORES, "store")


def _known(asked: list[str], known: Collection[str], what: str) -> list[str]:
    for name in asked:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no {what} {name!r}; there are: {', '.join(known)}")
    return asked


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("a size is at least 1")
    return sizes


if __name__ == "__main__":
    main()
