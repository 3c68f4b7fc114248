"""A file in which a bit has flipped: each answer is right, or a typed error."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import Ctx, task_of
from wakelog import BlockingApp, Jobs, WakelogError

FLIPS = 100
"""Files, each with one flipped bit in what its tables hold."""
IDS = ("a", "b", "c")


def add(ctx: Ctx, event: dict[str, Any]) -> None:
    ctx.set_state({"sum": (ctx.state or {"sum": 0})["sum"] + event["n"], "text": "ä" * 20})
    ctx.schedule("1h")


def jobs() -> Jobs:
    return Jobs(job=task_of(add, execute=lambda ctx: None))


def write(path: Path) -> None:
    with jobs().open(f"sqlite:///{path}", snapshot_every=7) as app:
        for number in range(8):
            for id in IDS:
                app.task("job").send(id, {"n": number}, event_id=f"k-{number}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flipped") / "jobs.db"
    write(path)
    return path


def answers(path: Path) -> dict[str, object]:
    """What a process says that opens the file: of each question the answer, or the typed error.

    Raises whatever is not a `WakelogError`.
    """
    said: dict[str, object] = {}

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            said[name] = question()
        except WakelogError as error:
            said[name] = error

    def about(app: BlockingApp, id: str) -> None:
        job, stream = app.task("job"), f"task:job:{id}"
        ask(f"get_state {id}", lambda: job.get_state(id))
        ask(f"status {id}", lambda: job.status(id))
        ask(f"history {id}", lambda: app.history(stream))
        ask(f"state_at {id}", lambda: app.state_at(stream, version=9))
        ask(f"send {id}", lambda: job.send(id, {"n": 1}).event_count)
        ask(f"after {id}", lambda: job.get_state(id))
        ask(f"again {id}", lambda: job.send(id, {"n": 3}, event_id="k-3").duplicate)

    def opened() -> None:
        with jobs().open(f"sqlite:///{path}") as app:
            for id in IDS:
                about(app, id)
            ask("list", app.list)
            ask("counts", app.counts)
            ask("workers", app.workers)

    ask("open", opened)
    return said


def flipped(path: Path, chance: random.Random) -> Iterator[tuple[int, int]]:
    """One bit after the other flipped in the file, outside the pages of its schema."""
    content = path.read_bytes()
    while True:
        at, bit = chance.randrange(4096, len(content)), chance.randrange(8)
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)
        yield at, bit


COMPARED = ("get_state", "state_at", "send", "after")
"""Questions with one right answer. (A list may lack what its filter no longer finds, and a key that
can no longer be found counts as new.)"""


def is_right(name: str, found: dict[str, object], right: dict[str, object]) -> bool:
    """An error is no wrong answer; what was refused changes nothing, and parks at most."""
    answer = found[name]
    if isinstance(answer, WakelogError) or answer == right[name]:
        return True
    what, _, id = name.partition(" ")
    refused = isinstance(found[f"send {id}"], WakelogError)
    return what == "after" and refused and answer in (None, right[f"get_state {id}"])


def test_no_flipped_bit_gives_a_wrong_answer_or_an_untyped_error(
    whole: Path, tmp_path: Path
) -> None:
    right = answers(Path(shutil.copy(whole, tmp_path / "right.db")))
    assert not [name for name, answer in right.items() if isinstance(answer, WakelogError)]
    path = tmp_path / "jobs.db"
    shutil.copy(whole, path)
    wrong: list[str] = []
    for number, (at, bit) in enumerate(flipped(path, random.Random(7))):
        if number == FLIPS:
            break
        for beside in path.parent.glob("jobs.db-*"):
            beside.unlink()
        found = answers(path)
        wrong += [
            f"byte {at} bit {bit}: {name}: {found[name]!r}"
            for name in found
            if name.startswith(COMPARED) and not is_right(name, found, right)
        ]
    assert wrong == []
