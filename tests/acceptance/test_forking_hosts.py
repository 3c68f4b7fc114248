"""wakelog in processes that another program forks: multiprocessing, Celery (E3)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.embedding import celery_app
from tests.acceptance.servers import ROOT, Server, eventually
from tests.forking import in_forked_process
from wakelog import Jobs


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_E3_each_process_of_multiprocessing_opens_its_own(sqlite_url: str, method: str) -> None:
    with Server("examples.embedding.processes", method, env={"SHOP_URL": sqlite_url}) as process:
        assert process.ended() == 0, process.said
    assert process.said == "20 orders, placed by others: True\n"


PLACES = """
from examples.embedding.celery_app import place
for number in range(8):
    place.delay(f"o-{number}", "tea")
    place.delay(f"o-{number}", "tea")
"""


def test_E3_a_process_that_celery_forks_opens_and_closes_its_own(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the signals of a forked process call; below with Celery's own processes."""
    monkeypatch.setattr(celery_app, "URL", sqlite_url)

    def lives() -> str:
        celery_app.open_app()
        celery_app.place("o-1", "tea")
        celery_app.place("o-1", "tea")
        workers = len(celery_app.app.workers())
        celery_app.close_app()
        return f"{workers}"

    with Jobs().open(sqlite_url) as app:
        assert in_forked_process(lives) == "1"
        assert app.workers() == []
        received = [e for e in app.history("task:order:o-1") if e.event == "EventReceived"]
        assert len(received) == 1


@pytest.mark.frameworks
def test_E3_each_process_that_celery_forks_opens_its_own(sqlite_url: str, tmp_path: Path) -> None:
    # given a broker in a folder, and tasks in it, each twice
    folder = tmp_path / "broker"
    folder.mkdir()
    environment = {
        "SHOP_URL": sqlite_url,
        "SHOP_BROKER": "filesystem://",
        "SHOP_BROKER_FOLDER": str(folder),
    }
    subprocess.run(
        [sys.executable, "-c", PLACES], cwd=ROOT, env={**os.environ, **environment}, check=True
    )
    command = ["celery", "-A", "examples.embedding.celery_app", "worker", "--pool", "prefork",
               "--concurrency", "2", "--without-mingle", "--without-gossip"]  # fmt: skip
    # when
    with (
        Server(
            *command, "--concurrency", "2", "--without-mingle", "--without-gossip", env=environment
        ) as server,
        Jobs().open(sqlite_url) as app,
    ):
        eventually(lambda: len(app.workers()) == 2 or None)
        # then
        eventually(lambda: app.count(name="order", status="idle") == 8 or None)
        assert {app.status_of(f"task:order:o-{n}").execute_count for n in range(8)} == {1}  # type: ignore[union-attr]
        assert server.stopped() == 0, server.said
        assert app.workers() == []
