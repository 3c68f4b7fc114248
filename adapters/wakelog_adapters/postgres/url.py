"""The URL of a PostgreSQL store: which database it is in, and how it is used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from wakelog_adapters.sql.url import UrlOptions, check_characters

__all__ = ["StoreLocation", "parse"]

MIN_POOL = 3
"""An append, a claim and a heartbeat: none of them waits until another has ended."""
_MAX_POOL = 1000
_POOL = 8
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_OURS = ("schema", "pool", "timeout", "wait", "pooler", "clock", "migrate")
_SPECIAL = re.compile(r"[@;=\s]")
"""What the name of a database may hold encoded only: options that were put there, with a password
among them, would be taken for a name, and shown."""
_SECRET = re.compile(r"pass|secret", re.IGNORECASE)
_PORTS = re.compile(r"[0-9,]*")
_ENCODED = (
    "percent-encode what is special in the user, the password and the name of the database: "
    "/ is %2F, @ is %40, : is %3A, ; is %3B"
)


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A schema in a database, and how to use it."""

    conninfo: str = field(repr=False)
    """What psycopg is given: the URL without our options. May hold a password."""
    label: str
    """What errors call it: no password in it."""
    schema: str = "wakelog"
    """Lower case, so that it needs no quotes."""
    pool: int = _POOL
    """The most connections of one process."""
    timeout_s: float = 5.0
    """How long a call waits for a connection, for the server, or for another session's lock."""
    wait_s: float = 0.0
    """How much longer a call waits, before it fails, if the server cannot be reached."""
    pooled: bool | None = None
    """Whether connections go through a pooler that gives each transaction another session. None:
    not specified; opening detects a pooler, and treats any that it finds as such a one."""
    server_clock: bool = True
    """Whether leases end by the server's clock; if not, by the time that each call is given."""
    migrate: bool = True
    """Whether opening brings the schema up to date; if not, an outdated one is refused."""


def parse(url: str) -> StoreLocation:
    """`postgresql://user:password@host:port/database?schema=jobs`; all options are optional.

    Ours are `schema`, `pool` (connections at most), `timeout` and `wait` (seconds),
    `pooler=transaction` or `session`, `migrate=off` (opening changes no schema) and `clock=given`
    (for simulations); the rest of the URL is libpq's and goes to it as it is.
    Raises `ValidationError`.
    """
    check_characters(url)
    base, _, query = url.replace("postgresql+psycopg://", "postgresql://", 1).partition("?")
    pairs = [(part, *part.partition("=")[::2]) for part in query.split("&") if part]
    ours = {name: unquote(value) for _, name, value in pairs if name in _OURS}
    options = UrlOptions(url, ours)
    authority, _, path = base.partition("://")[2].partition("/")
    if _SPECIAL.search(path) or authority.count("@") > 1:
        raise options.invalid(_ENCODED)
    others = "&".join(part for part, name, _ in pairs if name not in _OURS)
    conninfo = f"{base}?{others}" if others else base
    known = _read(conninfo)
    if isinstance(known, Exception):  # raised here, it would be the context of the other
        raise options.invalid(_without_password(str(known).strip(), query))
    if not _PORTS.fullmatch(str(known.get("port") or "")):
        raise options.invalid(f"its port is not a number; {_ENCODED}")
    pool = options.whole_number("pool", "connections", at_least=MIN_POOL, at_most=_MAX_POOL)
    return StoreLocation(
        conninfo=conninfo,
        label=_label(known),
        schema=_schema(options),
        pool=_POOL if pool is None else pool,
        timeout_s=options.seconds("timeout", 5.0, at_least=0.1),
        wait_s=options.seconds("wait", 0.0, at_least=0),
        pooled=_pooled(options),
        server_clock=options.is_default("clock", "server", "given"),
        migrate=options.is_default("migrate", "on", "off"),
    )


def _read(conninfo: str) -> dict[str, Any] | Exception:
    """What libpq reads in it, or its error, which may quote a password."""
    try:
        return cast("dict[str, Any]", conninfo_to_dict(conninfo))
    except (psycopg.ProgrammingError, UnicodeError) as error:
        return error


def _without_password(message: str, query: str) -> str:
    """libpq's own message, unless it could be quoting a password."""
    if message.startswith("invalid URI query parameter") and not _SECRET.search(query):
        return message
    return (
        "libpq cannot read it: percent signs, brackets and colons must be encoded, and the names of"
        " its options be those of libpq (password, in lower case)"
    )


def _label(known: dict[str, Any]) -> str:
    host, port = known.get("host") or known.get("hostaddr") or "", known.get("port")
    address = f"{host}:{port}" if port else host
    return f"postgresql://{address}/{known.get('dbname') or ''}"


def _schema(options: UrlOptions) -> str:
    schema = options.values.get("schema", "wakelog")
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        form = "lower-case letters, digits and _, at most 40, and not begin with a digit or pg_"
        raise options.invalid(f"schema must be {form}")
    return schema


def _pooled(options: UrlOptions) -> bool | None:
    word = options.values.get("pooler")
    if word not in (None, "session", "transaction"):
        raise options.invalid("pooler must be session or transaction; left out it is detected")
    return None if word is None else word == "transaction"
