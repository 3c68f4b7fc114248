"""A real PgBouncer for tests: Debian's, which `make pgbouncer` installs."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support import WAIT_S
from tests.support_postgres import Server

__all__ = ["needs_pgbouncer", "pgbouncer"]

LOOK_S = 0.05
"""Between two looks whether it answers."""
_PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(
    _PROGRAM is None, reason="needs PgBouncer: as root, make pgbouncer"
)


@contextmanager
def pgbouncer(server: Server, *, connections: int, roles: Sequence[str] = ()) -> Generator[str]:
    """The URL of `server` behind PgBouncer in transaction mode with so many connections to it: for
    its owner, and for each of `roles`."""
    assert _PROGRAM is not None
    behind = conninfo_to_dict(server.url)
    owner = pwd.getpwuid(server.data_folder.stat().st_uid).pw_name
    port = _free_port()
    settings = server.data_folder.parent / f"pgbouncer-{port}.ini"
    users = settings.with_suffix(".users")
    users.write_text("".join(f'"{name}" ""\n' for name in (behind["user"], *roles)))
    settings.write_text(
        f"""[databases]
* = host={behind["host"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 300
"""
    )
    as_owner = ["-u", owner] if os.geteuid() == 0 else []  # it refuses to run as root
    process = subprocess.Popen(
        [_PROGRAM, "-q", *as_owner, str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql://{behind['user']}@127.0.0.1:{port}/{behind['dbname']}?pooler=transaction"
    try:
        _wait_for(url.partition("?")[0], process)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(conninfo: str, process: subprocess.Popen[bytes]) -> None:
    """Until it answers. Fails if the process ends first, for example because its port was taken."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            psycopg.connect(conninfo).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, "PgBouncer has ended"
            assert time.monotonic() < deadline_s, "PgBouncer does not answer"
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
