"""The URL of an SQLite store: which file it is, and how the file is used."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from wakelog.errors import StoreUnavailableError
from wakelog_adapters.sql.url import UrlOptions, check_characters

__all__ = ["StoreLocation", "parse"]

_KNOWN = ("prefix", "timeout", "max_mib", "migrate")
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_FORM = "sqlite:///jobs.db (relative) or sqlite:////var/lib/jobs.db (absolute)"
_MAX_MIB = 1 << 24


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A database file and how to use it."""

    path: str
    """Absolute: a process may change its folder later."""
    prefix: str = "wakelog_"
    """What the names of the tables begin with: a file may hold other tables, or other stores."""
    timeout_s: float = 5.0
    """How long a write waits for another process's write."""
    max_mib: int | None = None
    """How large this process lets the file grow; None: as large as the disk allows."""
    migrate: bool = True
    """Whether opening brings the schema up to date; if not, an outdated one is refused."""


def parse(url: str) -> StoreLocation:
    """`sqlite:///jobs.db?prefix=abc_&timeout=5&max_mib=500&migrate=off`; all options are optional.

    Raises `ValidationError` for anything else, and for a database in memory: that is `memory://`;
    `StoreUnavailableError` for a relative path in a folder that was deleted.
    """
    check_characters(url)
    rest = url.partition("://")[2]
    raw_path, _, query = rest.partition("?")
    options = UrlOptions(url, dict(parse_qsl(query, keep_blank_values=True)))
    if not options.values.keys() <= set(_KNOWN):  # not shown: it may be a part of a secret
        known = f"{', '.join(_KNOWN[:-1])} and {_KNOWN[-1]}"
        raise options.invalid(f"it has an unknown option; the options are {known}")
    return StoreLocation(
        path=_path(raw_path, options),
        prefix=_prefix(options),
        timeout_s=options.seconds("timeout", 5.0, at_least=0),
        max_mib=options.whole_number("max_mib", "MiB", at_least=1, at_most=_MAX_MIB),
        migrate=options.is_default("migrate", "on", "off"),
    )


def _path(raw: str, options: UrlOptions) -> str:
    path = unquote(raw[1:])
    if path in ("", ":memory:"):
        raise options.invalid("it names no file; for a store in memory use memory://")
    if not raw.startswith("/"):
        raise options.invalid(f"three slashes come before a path: {_FORM}")
    if "\0" in path:
        raise options.invalid("a path cannot hold a NUL character")
    try:
        return os.path.abspath(path)
    except OSError as error:
        detail = f"{path}: the current folder is gone: change to another, or give a whole path"
        raise StoreUnavailableError("unreachable", detail) from error


def _prefix(options: UrlOptions) -> str:
    prefix = options.values.get("prefix", "wakelog_")
    if prefix and not _PREFIX.fullmatch(prefix):
        message = "prefix must be letters, digits and _, at most 40, and not begin with a digit"
        raise options.invalid(message)
    return prefix
