"""wakelog in Django: its command, its settings, its connections (E3)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.servers import ROOT, Server, eventually, free_port

TABLES = """
import django
django.setup()
from django.db import connection
from examples.embedding.django_site.models import Confirmation
with connection.schema_editor() as editor:
    editor.create_model(Confirmation)
"""

CLOSES = """
import django
django.setup()
from django.db import connections
from wakelog import Jobs, Task
from wakelog_adapters.django import closing_connections

used = []

def looks(ctx, *_):
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1")
    used.append(connections["default"])

async def starts(ctx, event):
    ctx.set_state(event)

task = Task(state=int, event=int)
task.on_event(starts)
task.execute(looks)
jobs = Jobs(task=task)
for prepare in (lambda jobs: jobs, closing_connections, closing_connections):
    app = prepare(jobs).open_blocking("memory://", worker=True)
    app.task(task).send("a", 1)
    app.task(task).trigger("a", timeout="20s")
    app.close()
print(["open" if each.connection else "closed" for each in used])
"""


def environment(folder: Path) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "examples.embedding.django_site.settings",
        "SITE_FOLDER": str(folder),
        "PYTHONPATH": str(ROOT),
    }


def ran(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_E3_a_site_places_orders_and_the_command_works_on_them(tmp_path: Path) -> None:
    # given a site, and beside it the worker, in which Django is set up
    ran(tmp_path, "-c", TABLES)
    port, env = free_port(), environment(tmp_path)
    serve = ["django", "runserver", f"127.0.0.1:{port}", "--noreload", "--skip-checks"]
    with (
        Server("django", "wakelog", "worker", env=env) as worker,
        Server(*serve, port=port, env=env) as site,
    ):
        # when
        eventually(lambda: site.ask("PUT", "/orders/o-1", {"item": "tea"})[0] == 202 or None)
        # then its handler used the models
        done = {"state": "confirmed", "confirmed": True}
        eventually(lambda: site.get("/orders/o-1") == done or None)
        assert worker.stopped() == 0, worker.said
    # and each other word of the command line is there, too
    command = ["-m", "django", "wakelog"]
    status = json.loads(ran(tmp_path, *command, "status", "task:order:o-1", "--json"))
    assert status["status"] == "idle"
    assert "Exit codes" in ran(tmp_path, *command, "--help")


def test_E3_a_handler_in_a_thread_leaves_no_connection_of_django_open(tmp_path: Path) -> None:
    """As a request leaves none; the command prepares its jobs in the same way."""
    assert ran(tmp_path, "-c", CLOSES) == "['open', 'closed', 'closed']\n"
