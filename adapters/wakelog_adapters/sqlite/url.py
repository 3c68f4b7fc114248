"""The URL of an SQLite store: where the file lies, and how it is used."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from wakelog.errors import ValidationError

__all__ = ["StoreLocation", "parse"]

_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_FORM = "sqlite:///jobs.db (relative) or sqlite:////var/lib/jobs.db (absolute)"


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
    """Whether opening brings the schema up to date; else one that is not is refused."""


def parse(url: str) -> StoreLocation:
    """`sqlite:///jobs.db?prefix=abc_&timeout=5&max_mib=500&migrate=off`; all may be left out.

    Raises `ValidationError` for anything else, and for a database in memory: that is `memory://`.
    """
    rest = url.partition("sqlite://")[2]
    raw_path, _, query = rest.partition("?")
    path = unquote(raw_path[1:])
    if path in ("", ":memory:"):
        raise _invalid(url, "it names no file; for a store in memory use memory://")
    if not raw_path.startswith("/"):
        raise _invalid(url, f"three slashes come before a path: {_FORM}")
    if "\0" in path:
        raise _invalid(url, "a path cannot hold a NUL character")
    options = dict(parse_qsl(query, keep_blank_values=True))
    place = StoreLocation(
        path=os.path.abspath(path),
        prefix=_prefix(url, options.pop("prefix", "wakelog_")),
        timeout_s=_timeout_s(url, options.pop("timeout", "5")),
        max_mib=_max_mib(url, options.pop("max_mib", None)),
        migrate=_migrate(url, options.pop("migrate", "on")),
    )
    if options:
        known = "prefix, timeout, max_mib and migrate"
        raise _invalid(url, f"unknown option {min(options)!r}; the options are {known}")
    return place


def _prefix(url: str, text: str) -> str:
    if text and not _PREFIX.fullmatch(text):
        raise _invalid(url, "prefix must be letters, digits and _, at most 40, no digit first")
    return text


def _timeout_s(url: str, text: str) -> float:
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = math.nan
    if not 0 <= timeout_s <= 3600:
        raise _invalid(url, "timeout must be seconds, from 0 to 3600")
    return timeout_s


def _max_mib(url: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1 << 24):
        raise _invalid(url, "max_mib must be a whole number of MiB, at least 1")
    return int(text)


def _migrate(url: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise _invalid(url, "migrate must be on (as it is if left out) or off")
    return text == "on"


def _invalid(url: str, message: str) -> ValidationError:
    return ValidationError(f"store URL {url!r}", [{"loc": "", "msg": message, "type": "url"}])
