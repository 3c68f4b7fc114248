"""The URL of a PostgreSQL store: which database, and how it is used."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from wakelog.errors import ValidationError

__all__ = ["StoreLocation", "parse"]

MIN_POOL = 3
"""A claim reads on a second connection while it holds one; and a heartbeat must not wait."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_OURS = ("schema", "pool", "timeout", "wait", "pooler", "clock", "migrate")
_SECRET = re.compile(r"(?<=://).*@|(?<=password=)[^&]*")


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A schema in a database, and how to use it."""

    conninfo: str
    """What psycopg is given: the URL without our options. May hold a password."""
    label: str
    """What errors call it: no password in it."""
    schema: str = "wakelog"
    """Lower case, so that it needs no quotes."""
    pool: int = 8
    """Connections at most, of one process."""
    timeout_s: float = 5.0
    """How long a call waits for a connection, for the server, or for another's lock."""
    wait_s: float = 0.0
    """How much longer a call waits where no connection is to be had, before it fails."""
    pooled: bool | None = None
    """Whether a pooler stands between, that gives each transaction another session. None: not
    said; opening looks whether one stands between, and takes it to be such a one."""
    server_clock: bool = True
    """Whether the server's clock says when a lease has ended; else the time that is given."""
    migrate: bool = True
    """Whether opening brings the schema up to date; else one that is not is refused."""


def parse(url: str) -> StoreLocation:
    """`postgresql://user:password@host:port/database?schema=jobs`; all options may be left out.

    Ours are `schema`, `pool` (connections at most), `timeout` and `wait` (seconds),
    `pooler=transaction` or `session`, `migrate=off` (opening changes no schema) and `clock=given`
    (for simulations); the rest of the URL is libpq's and goes to it as it is.
    Raises `ValidationError`.
    """
    base, _, query = url.partition("?")
    pairs = [(part, *part.partition("=")[::2]) for part in query.split("&") if part]
    options = {name: unquote(value) for _, name, value in pairs if name in _OURS}
    others = "&".join(part for part, name, _ in pairs if name not in _OURS)
    conninfo = f"{base}?{others}" if others else base
    try:
        known = cast("dict[str, Any]", conninfo_to_dict(conninfo))
    except psycopg.ProgrammingError as error:
        raise _invalid(url, _complaint(str(error).strip())) from None
    return StoreLocation(
        conninfo=conninfo,
        label=_label(known),
        schema=_schema(url, options.get("schema", "wakelog")),
        pool=_pool(url, options.get("pool", "8")),
        timeout_s=_seconds(url, "timeout", options.get("timeout", "5"), at_least=0.1),
        wait_s=_seconds(url, "wait", options.get("wait", "0"), at_least=0),
        pooled=_pooled(url, options.get("pooler")),
        server_clock=_word(url, options, "clock", "server", "given") == "server",
        migrate=_word(url, options, "migrate", "on", "off") == "on",
    )


def _complaint(text: str) -> str:
    """What libpq says, unless it could be quoting the password."""
    if "query parameter" in text:
        return text
    return "libpq cannot read it: percent signs, brackets and colons must be encoded"


def _label(known: dict[str, Any]) -> str:
    host, port = known.get("host") or known.get("hostaddr") or "", known.get("port")
    where = f"{host}:{port}" if port else host
    return f"postgresql://{where}/{known.get('dbname') or ''}"


def _schema(url: str, text: str) -> str:
    if not _SCHEMA.fullmatch(text) or text.startswith("pg_"):
        message = "schema must be lower-case letters, digits and _, at most 40, no digit first"
        raise _invalid(url, message)
    return text


def _pool(url: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and MIN_POOL <= int(text) <= 1000):
        raise _invalid(url, f"pool must be a number of connections, from {MIN_POOL} to 1000")
    return int(text)


def _seconds(url: str, name: str, text: str, *, at_least: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not at_least <= seconds <= 3600:
        raise _invalid(url, f"{name} must be seconds, from {at_least:g} to 3600")
    return seconds


def _pooled(url: str, word: str | None) -> bool | None:
    if word not in (None, "session", "transaction"):
        raise _invalid(url, "pooler must be session or transaction; left out it is found out")
    return None if word is None else word == "transaction"


def _word(
    url: str,
    options: dict[str, str],
    name: Literal["clock", "migrate"],
    default: str,
    other: str,
) -> str:
    word = options.get(name, default)
    if word not in (default, other):
        raise _invalid(url, f"{name} must be {default} (as it is if left out) or {other}")
    return word


def _without_secrets(text: str) -> str:
    return _SECRET.sub(lambda found: "***@" if found.group().endswith("@") else "***", text)


def _invalid(url: str, message: str) -> ValidationError:
    what = f"store URL {_without_secrets(url)!r}"
    return ValidationError(what, [{"loc": "", "msg": message, "type": "url"}])
