"""A proxy between a store and its server that cuts a connection when a test says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from psycopg.conninfo import conninfo_to_dict

from wakelog_adapters.postgres.url import parse

__all__ = ["Silent", "Where", "Wire", "as_a_pooler_would", "as_if_all_shared_a_session", "wired"]

_SIZE = 1 << 16

Where = Literal["before", "during", "after"]
Silent = Literal["requests", "answers"]


@dataclass(eq=False)
class _Line:
    """One connection, and where it was cut, once the chosen text has passed on it."""

    client: socket.socket
    server: socket.socket
    cut_where: Where | None = None
    silent: Silent | None = None


class Wire:
    """Forwards connections to the server, and cuts one when a chosen text passes."""

    def __init__(self, family: socket.AddressFamily, address: str | tuple[str, int]) -> None:
        self._family = family
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._servers: list[socket.socket] = []
        self._closed = False
        self._needle: bytes | None = None
        self._for_good = False
        self._where: Where = "before"
        self._let_through = 0
        self.cut = threading.Event()
        """Set when the connection is cut."""
        self.go = threading.Event()
        """A cut `during` the work waits for this."""
        self.is_refusing = False
        """Whether each connection is accepted, and cut at its first query: as by a pooler whose
        server is unreachable."""
        self.answering: Callable[[bytes], bytes] = lambda data: data
        """Changes what the server sends, before it is passed on."""
        self.silent: Silent | None = None
        """What is taken and passed on to nobody; connections are accepted all the same. One from
        which something was taken so stays silent: no network leaves out bytes and goes on."""
        self.was_silent = threading.Event()
        """Set when something was taken so."""
        self._silent_at: tuple[bytes, Silent] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def is_to_be_cut(self) -> bool:
        """Whether the chosen text has not passed yet."""
        return self._needle is not None

    def cut_at(self, needle: str, where: Where, *, after: int = 0, for_good: bool = False) -> None:
        """Cut the next connection on which `needle` is sent: before the server receives it, at
        `go` (the server goes on), or after its answer, which is not passed on.

        The first `after` are let through. `for_good`: cut all others too, and accept no more.
        """
        self._let_through = after
        self._where = where
        self._for_good = for_good
        self._needle = needle.encode()
        self.cut.clear()

    def silence_at(self, needle: str, silent: Silent) -> None:
        """The next connection on which `needle` is sent is silent from then on."""
        self._silent_at = needle.encode(), silent

    def close(self) -> None:
        """Accept no more connections, and end those that there are."""
        self._closed = True
        self.refuse()
        for server in self._servers:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(self._family, socket.SOCK_STREAM)
                try:
                    server.connect(self._address)
                except OSError:  # the server is not running
                    server.close()
                    client.close()
                    continue
                self._servers.append(server)
                if self._closed:  # it was closed meanwhile
                    server.shutdown(socket.SHUT_RDWR)
                line = _Line(client, server)
                for pump in (self._to_server, self._to_client):
                    threading.Thread(target=pump, args=(line,), daemon=True).start()

    def _to_server(self, line: _Line) -> None:
        with suppress(OSError):
            while data := line.client.recv(_SIZE):
                if self._silent_at is not None and self._silent_at[0] in data:
                    line.silent, self._silent_at = self._silent_at[1], None
                if self._swallows("requests", line):
                    continue
                if self.is_refusing and data[:1] in (b"Q", b"P"):
                    self._cut(line.client)
                    line.server.shutdown(socket.SHUT_RDWR)
                    return
                if self._is_at(data):
                    where = line.cut_where = self._where
                    self._needle = None  # from here on a test may set another cut
                    if where != "before":
                        line.server.sendall(data)
                    if where == "after":  # what belongs to it may follow
                        continue
                    if where == "during":
                        self.go.wait()
                    self._cut(line.client)
                    if where == "before":
                        line.server.shutdown(socket.SHUT_RDWR)
                    return
                line.server.sendall(data)
            line.server.shutdown(socket.SHUT_WR)

    def _swallows(self, what: Silent, line: _Line) -> bool:
        is_swallowed = what in (self.silent, line.silent)
        if is_swallowed:
            line.silent = what
            self.was_silent.set()
        return is_swallowed

    def _is_at(self, data: bytes) -> bool:
        if self._needle is None or self._needle not in data:
            return False
        self._let_through -= 1
        return self._let_through < 0

    def _to_client(self, line: _Line) -> None:
        with suppress(OSError):
            while data := line.server.recv(_SIZE):
                if self._swallows("answers", line):
                    continue
                if line.cut_where is None:
                    line.client.sendall(self.answering(data))
                elif line.cut_where == "after":
                    self._cut(line.client)
        _end(line.client)
        line.server.close()

    def _cut(self, client: socket.socket) -> None:
        if self._for_good:
            self.close()
        self.cut.set()
        _end(client)


def _end(client: socket.socket) -> None:
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    client.close()


@contextmanager
def wired(url: str) -> Iterator[tuple[Wire, str]]:
    """A wire to the server of a store's URL, and the URL of the same store through it."""
    query = url.partition("?")[2]
    options = [part for part in query.split("&") if not part.startswith(("host=", "port="))]
    known = conninfo_to_dict(parse(url).conninfo)
    host, port = str(known.get("host") or "127.0.0.1"), int(known.get("port") or 5432)
    if host.startswith("/"):
        wire = Wire(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")
    else:
        wire = Wire(socket.AF_INET, (host, port))
    user, database = known.get("user") or "", known.get("dbname") or ""
    password = f":{known['password']}" if known.get("password") else ""
    through = f"postgresql://{user}{password}@127.0.0.1:{wire.port}/{database}"
    try:
        yield wire, f"{through}?{'&'.join(options)}"
    finally:
        wire.close()


def as_a_pooler_would(data: bytes) -> bytes:
    """Give another process id at connecting than that of the session: the pooler's own."""
    return _with_pid(data, b"K\x00\x00\x00\x0c", 99)


def as_if_all_shared_a_session(data: bytes) -> bytes:
    """As such a pooler, all of whose clients get the same session."""
    row = b"D\x00\x00\x00\x0e\x00\x01\x00\x00\x00\x04"
    return _with_pid(as_a_pooler_would(data), row, 100)


def _with_pid(data: bytes, head: bytes, pid: int) -> bytes:
    """`data` with another process id behind a message's head. One begins with a zero byte, which
    no text of four characters does."""
    before, found, after = data.partition(head + b"\x00")
    return before + head + pid.to_bytes(4, "big") + after[3:] if found else data
