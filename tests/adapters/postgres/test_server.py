"""The servers that tests run leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
from tests.support_postgres import bare_connection, running_server

with running_server() as first, running_server() as second:
    for server in (first, second):
        with bare_connection(server.url) as connection:
            print(connection.execute("SELECT 1").fetchone())
with running_server():
    pass
"""


def test_servers_leave_nothing_in_the_temporary_folder() -> None:
    # not pytest's own folder: the path of a socket must be short
    with tempfile.TemporaryDirectory(prefix="w-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n") == ["(1,)", "(1,)", ""]
        assert list(Path(folder).iterdir()) == []
