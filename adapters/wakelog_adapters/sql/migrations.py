"""Migrations: the numbered SQL files of a store, and how far a store has applied them.

A schema may be newer than the package that opens it: during a deploy two versions of the package
work on one store. So the first line of each file says which migration a package must know to work
on the result, `-- compatible since: 1`, and the store records it. A migration that only adds
something names an earlier migration; one that removes something names the migration that replaced
it, and comes a release later.

A released migration never changes. Between releases the newest one does, in place: so the store
also records a digest of its statements, and what another build has made is refused.
"""

from __future__ import annotations

import hashlib
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
    """The migration that a package must know, at least, to work on a schema with this one."""
    sql: str

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"

    @property
    def recorded(self) -> str:
        """How a store names it once it is applied: with a digest, which comments do not change."""
        lines = [line.strip() for line in self.sql.splitlines()]
        code = "\n".join(line for line in lines if line and not line.startswith("--"))
        return f"{self.name} {hashlib.sha256(code.encode()).hexdigest()[:12]}"


@cache
def read(package: str) -> Sequence[Migration]:
    """All known migrations, in order: the files `migrations/0001_name.sql` of a package.

    Raises `ValueError` for a file without the line that says what it is compatible with.
    """
    migrations: list[Migration] = []
    for file in (resources.files(package) / "migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            text = file.read_text(encoding="utf-8")
            header = _HEADER.match(text)
            if header is None:
                raise ValueError(f"{file.name} does not begin with '-- compatible since: …'")
            migrations.append(Migration(int(number), name, int(header[1]), text[header.end() :]))
    return sorted(migrations)


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The migrations of a store, compared with those that this package knows."""

    store: str
    """What errors call the store: no password in it."""
    number: int
    """The newest migration that was applied; 0: there is no schema yet."""
    compatible_since: int
    """The migration that a package must know to work on it, by the record of those applied."""
    known: Sequence[Migration]
    changed: Sequence[Migration] = ()
    """Those that were applied, but not as this package knows them."""

    @property
    def missing(self) -> Sequence[Migration]:
        """The migrations to apply, in order."""
        return [each for each in self.known if each.number > self.number]

    @property
    def newest(self) -> int:
        """The newest migration that this package knows."""
        return self.known[-1].number

    @property
    def is_too_new(self) -> bool:
        """Whether a newer package has changed the schema so that this one cannot work on it."""
        return self.newest < self.compatible_since

    @property
    def is_usable(self) -> bool:
        """Whether this package can work on it, once what is missing is applied."""
        return not (self.is_too_new or self.changed)

    def check(self) -> None:
        """Raise `StoreUnavailableError` ("wrong_version") if it is not usable."""
        if self.changed:
            names = ", ".join(map(str, self.changed))
            raise StoreUnavailableError(
                "wrong_version",
                f"{self.store} was made by another build of wakelog (its {names} differs), and no "
                f"migration leads here: begin with a new file or schema, or use that build",
            )
        if self.is_too_new:
            raise StoreUnavailableError(
                "wrong_version",
                f"{self.store} is at migration {self.number} and needs a wakelog that knows "
                f"migration {self.compatible_since}; this one knows {self.newest}",
            )

    def missing_error(self) -> StoreUnavailableError:
        """The error for a store that lacks migrations and may not be migrated by opening it."""
        names = ", ".join(map(str, self.missing))
        detail = f"{self.store} lacks {names}, and its URL has migrate=off: run wakelog migrate"
        return StoreUnavailableError("wrong_version", detail)
