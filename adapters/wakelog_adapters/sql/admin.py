"""The care of a store: its schema brought up to date, its health examined.

What `wakelog migrate` and `wakelog doctor` ask. A store's caretaker is found as the store is, by
the scheme of its URL: an entry point in the group `wakelog.store_admins` that takes the URL. Unlike
opening the store, nothing that a caretaker does changes anything, except `migrate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Protocol

from wakelog.clock import Clock
from wakelog.errors import StoreUnavailableError
from wakelog.jobs import loaded
from wakelog_adapters.sql.findings import Finding
from wakelog_adapters.sql.migrations import Migration, SchemaVersion

__all__ = ["Finding", "Migration", "SchemaVersion", "StoreAdmin", "store_admin"]

ADMINS = "wakelog.store_admins"


class StoreAdmin(Protocol):
    """Takes care of the store at one URL. All calls block, and raise `StoreUnavailableError`."""

    @property
    def migrations(self) -> Sequence[Migration]:
        """All steps of the schema that this package knows, in order."""
        ...

    def schema_version(self) -> SchemaVersion:
        """How the schema stands; where there is no store yet, everything is missing."""
        ...

    def script(self, steps: Sequence[Migration]) -> str:
        """These steps, which follow each other, as SQL to run by hand."""
        ...

    def migrate(self) -> Sequence[Migration]:
        """Apply what is missing, and answer what that was. Killed here: nothing was applied."""
        ...

    def examine(self, clock: Clock) -> Iterator[Finding]:
        """All there is to say of the store's health, by this machine's clock."""
        ...


def store_admin(url: str) -> StoreAdmin:
    """The caretaker for a URL. Raises `ValidationError` for a URL that cannot be one, and
    `StoreUnavailableError` ("unknown_scheme") for one of a store that needs no care."""
    scheme, colon, _ = url.partition("://")
    known = entry_points(group=ADMINS)
    if not colon or scheme not in known.names:
        there_are = ", ".join(f"{name}://" for name in sorted(known.names))
        what = f"{scheme}://" if colon else "what is no URL"
        raise StoreUnavailableError("unknown_scheme", f"no care for {what} (only {there_are})")
    make: Callable[[str], StoreAdmin] = loaded(known[scheme])
    return make(url)
