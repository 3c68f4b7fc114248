"""wakelog inside web servers, as real processes on loopback (E3)."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.servers import ROOT, Server, eventually, free_port
from wakelog import Jobs

UVICORN = ["uvicorn", "examples.embedding.fastapi_app:api", "--host", "127.0.0.1", "--port"]
GUNICORN = ["gunicorn", "--preload", "--config", "python:examples.embedding.gunicorn_conf",
            "--no-control-socket", "examples.embedding.flask_app:web"]  # fmt: skip


def workers_of(url: str) -> list[str]:
    with Jobs().open(url) as app:
        return [worker.name for worker in app.workers() if worker.alive]


def pids_of(server: Server, count: int) -> Sequence[int]:
    """The processes that answer, once there are so many."""
    found: set[int] = set()

    def look() -> Sequence[int] | None:
        pid = server.get("/health")
        found.update([] if pid is None else [pid])
        return sorted(found) if len(found) == count else None

    return eventually(look)


def serves_orders(server: Server) -> None:
    """An order is placed, and confirmed in the background; mistakes are answered as such."""
    assert server.ask("PUT", "/orders/o-1", {"item": "tea"}) == (202, True)
    eventually(lambda: server.get("/orders/o-1") == {"item": "tea", "status": "confirmed"} or None)
    assert "life began" in server.get("/orders/o-1/history")
    status, problem = server.ask("GET", "/orders/nobody/history")
    assert (status, problem["type"]) == (404, "InstanceNotFoundError")
    assert "check the id" in problem["detail"]


def test_E3_fastapi_under_uvicorn_with_two_workers(sqlite_url: str) -> None:
    # given
    port = free_port()
    command = [*UVICORN, str(port), "--workers", "2"]
    with Server(*command, port=port, env={"SHOP_URL": sqlite_url}) as server:
        eventually(lambda: len(server.get("/ready") or []) == 2 or None)
        # then each process has an app of its own, on one store
        assert len(pids_of(server, 2)) == 2
        serves_orders(server)
        assert server.ask("GET", "/orders/%0A")[0] == 422
        # when, then both have closed theirs
        assert server.stopped() == 0, server.said
    assert workers_of(sqlite_url) == []


def test_E3_fastapi_under_uvicorn_that_reloads(sqlite_url: str, tmp_path: Path) -> None:
    # given a copy that may be edited
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    port = free_port()
    command = [*UVICORN, str(port), "--reload"]
    with Server(*command, port=port, folder=tmp_path, env={"SHOP_URL": sqlite_url}) as server:
        [first] = pids_of(server, 1)
        serves_orders(server)
        # when
        edited = tmp_path / "examples/embedding/shop.py"
        edited.write_text(edited.read_text("utf-8") + "\n# edited\n", "utf-8")
        # then another process serves, and only its app is open
        eventually(lambda: {server.get("/health")} - {None, first} or None)
        eventually(lambda: len(server.get("/ready") or []) == 1 or None)
        assert server.get("/orders/o-1") == {"item": "tea", "status": "confirmed"}
        server.stopped(signal.SIGINT)
    assert workers_of(sqlite_url) == []


@pytest.mark.parametrize("workers", ["sync", pytest.param("gthread", marks=pytest.mark.frameworks)])
def test_E3_flask_under_gunicorn_that_preloads(sqlite_url: str, workers: str) -> None:
    # given processes that are forked from one that has imported the jobs
    port = free_port()
    command = [*GUNICORN, "-k", workers, "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    with Server(*command, port=port, env={"SHOP_URL": sqlite_url}) as server:
        eventually(lambda: len(server.get("/ready") or []) == 2 or None)
        # then each has an app of its own
        assert len(pids_of(server, 2)) == 2
        serves_orders(server)
        # when, then
        assert server.stopped() == 0, server.said
    assert workers_of(sqlite_url) == [], server.said
