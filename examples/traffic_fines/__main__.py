"""The command line: python -m examples.traffic_fines [LOG] [--store URL] [--case ID]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from examples.traffic_fines.fine import ROME, jobs
from examples.traffic_fines.records import LogError, Record, read_log
from examples.traffic_fines.replay import Comparison, compare, feed
from wakelog import WakelogError
from wakelog.testing import Simulation

MADE_UP = Path(__file__).parent / "made_up.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the engine raised the penalties of the log on their days, and no other; 1: it did not;
    2: the comparison could not be made."""
    asked = _parser().parse_args(arguments)
    try:
        records = read_log(asked.log)
        if asked.case is not None and all(record.case != asked.case for record in records):
            raise LogError(f"{asked.log} has no case {asked.case}")
        with _store(asked.store) as url, Simulation(jobs, start=records[0].at, url=url) as sim:
            feed(sim, records)
            if asked.case is not None:
                print(*_timeline(sim, asked.case), sep="\n")
                return 0
            compared = compare(sim, records)
    except (LogError, WakelogError) as error:
        print(error, file=sys.stderr)
        return 2
    print(*_report(asked.log, records, compared), sep="\n")
    return 0 if all(each.verdict in ("exact", "none") for each in compared) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.traffic_fines",
        description="Let an alarm in the engine raise the penalties of a log of traffic fines.",
    )
    parser.add_argument(
        "log", nargs="?", type=Path, default=MADE_UP, help="a .csv, .xes or .xes.gz file"
    )
    parser.add_argument("--store", metavar="URL", help="default: SQLite in a temporary folder")
    parser.add_argument("--case", metavar="ID", help="show the history of this case instead")
    return parser


@contextmanager
def _store(url: str | None) -> Iterator[str]:
    """The URL that was given, or the URL of a file that is deleted afterwards."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{quote(folder)}/fines.db"


def _report(log: Path, records: Sequence[Record], compared: Sequence[Comparison]) -> Iterator[str]:
    """A line for each penalty, logged or raised, then the sums."""
    first, last = records[0].day, records[-1].day
    yield f"{log.name}: {len(compared)} cases, {len(records)} events, {first} to {last}"
    yield ""
    yield f"{'case':<10} {'notified':<11} {'in the log':<11} {'raised':<11}"
    for each in compared:
        if each.verdict != "none":
            days = (each.notified_on, each.logged_on, each.raised_on)
            shown = " ".join(f"{day or '-'!s:<11}" for day in days)
            yield f"{each.case:<10} {shown} {each.verdict}"
    yield ""
    sums = Counter(each.verdict for each in compared)
    logged = sum(each.logged_on is not None for each in compared)
    yield f"raised on the exact day: {sums['exact']} of {logged} in the log"
    yield f"missing: {sums['missing']}, early: {sums['early']}, late: {sums['late']}"
    yield f"raised by rule, not in the log: {sums['by rule, not in the log']}"
    appealed = sum(each.appealed and each.verdict == "exact" for each in compared)
    yield f"raised on the exact day although an appeal was under way: {appealed}"
    none = [each for each in compared if each.verdict == "none"]
    unknown = sum(each.notified_on is None for each in none)
    paid = sum(each.notified_on is not None and each.stage == "settled" for each in none)
    yield (
        f"no penalty, neither in the log nor here: {len(none)} "
        f"(never notified: {unknown}, paid in full in time: {paid})"
    )


def _timeline(sim: Simulation, case: str) -> Iterator[str]:
    """The history of one case, by days in Italy."""
    yield f"task:fine:{case}, by the calendar of {ROME.key}"
    history = sim.history(f"task:fine:{case}")
    for day, entries in groupby(history, key=lambda entry: entry.at.astimezone(ROME).date()):
        for number, entry in enumerate(entries):
            yield f"  {'' if number else str(day):<10}  {entry.description}"


if __name__ == "__main__":
    sys.exit(main())
