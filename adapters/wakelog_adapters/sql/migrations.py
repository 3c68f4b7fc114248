"""Migrations: the numbered SQL files of a store, and how a schema stands to them.

A schema may be newer than the package that opens it: while a deploy goes on, two versions of the
package work on one store. So each file says in its first line since which migration a package may
still work on what it leaves, `-- compatible since: 1`, and that is recorded with it. A step that
only adds something names an earlier migration; a step that takes something away names the one that
made it superfluous, and comes a release later.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError

__all__ = ["Migration", "SchemaVersion", "read"]

_HEADER = re.compile(r"-- compatible since: (\d+)\n")


class Migration(NamedTuple):
    """One step of a schema."""

    number: int
    name: str
    compatible_since: int
    """The newest migration that the oldest package knows which may work on what this leaves."""
    sql: str

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


@cache
def read(package: str) -> Sequence[Migration]:
    """All known steps, in order: the files `migrations/0001_name.sql` of a package.

    Raises `ValueError` for one that does not begin with what it is compatible with.
    """
    found: list[Migration] = []
    for file in (resources.files(package) / "migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            text = file.read_text(encoding="utf-8")
            header = _HEADER.match(text)
            if header is None:
                raise ValueError(f"{file.name} does not begin with '-- compatible since: …'")
            found.append(Migration(int(number), name, int(header[1]), text[header.end() :]))
    return sorted(found)


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """How a schema stands to the migrations that this package knows."""

    store: str
    """What the store is called: no password in it."""
    number: int
    """The newest migration that was applied; 0: there is nothing yet."""
    compatible_since: int
    """What a package must know to work on it, by what the applied migrations say."""
    known: Sequence[Migration]

    @property
    def missing(self) -> Sequence[Migration]:
        """What there is to apply, in order."""
        return [each for each in self.known if each.number > self.number]

    @property
    def newest(self) -> int:
        """The newest migration that this package knows."""
        return self.known[-1].number

    @property
    def is_too_new(self) -> bool:
        """Whether a newer package has made it into something that this one cannot work on."""
        return self.newest < self.compatible_since

    def check(self) -> None:
        """Raise `StoreUnavailableError` ("wrong_version") if it is too new."""
        if self.is_too_new:
            raise StoreUnavailableError(
                "wrong_version",
                f"{self.store} stands at migration {self.number}, for a wakelog that knows "
                f"{self.compatible_since} at least; this one knows {self.newest}",
            )

    def refuse(self) -> StoreUnavailableError:
        """That something is missing, where opening may not add it."""
        names = ", ".join(map(str, self.missing))
        detail = f"{self.store} lacks {names}, and its URL says migrate=off: run wakelog migrate"
        return StoreUnavailableError("wrong_version", detail)
