"""The filter of a listing as an SQL condition: the same for every SQL store."""

from __future__ import annotations

from typing import NamedTuple

from wakelog.ports.rows import Listing

__all__ = ["Dialect", "listing_condition"]


class Dialect(NamedTuple):
    """What differs between databases. The status table is `s`, a parameter `?`."""

    placeholder: str
    """How the driver writes a parameter."""
    has_id_prefix: str
    """The condition that `s.id` begins with a parameter, in which no character is special."""


def listing_condition(listing: Listing, dialect: Dialect) -> tuple[str, list[object]]:
    """The condition for one page of living or of waking instances, and its parameters."""
    conditions, values = [_shown(listing)], list[object]()

    def add(condition: str, value: object) -> None:
        if value is not None:
            conditions.append(condition.replace("?", dialect.placeholder))
            values.append(value)

    after = listing.after or ""
    if listing.kind is not None:
        # One range of the primary key; ";" is the character after ":".
        start = listing.kind if listing.name is None else f"{listing.kind}:{listing.name}"
        after = max(after, f"{start}:")
        add("s.stream < ?", f"{start};")
    else:
        add("s.name = ?", listing.name)
    add("s.stream > ?", after)
    add("s.status = ?", listing.status)
    add(dialect.has_id_prefix, listing.id_prefix)
    add("s.wake_us < ?", listing.due_before_us)
    add("s.error_type = ?", listing.error_type)
    add("s.updated_us > ?", listing.updated_after_us)
    return " AND ".join(conditions), values


def _shown(listing: Listing) -> str:
    """Which instances are listed at all; for the rare ones there are indexes with the condition."""
    if listing.dead:
        return "s.dead_count > 0"
    if listing.unread:
        return "s.code_error IS NOT NULL"
    return "s.wake_us IS NOT NULL" if listing.waking else "s.status <> 'not_found'"
