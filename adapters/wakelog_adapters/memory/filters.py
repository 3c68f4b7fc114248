"""Which instances match a listing: the WHERE of a database, on values."""

from __future__ import annotations

from wakelog.core.instance import Instance, next_wake
from wakelog.log.status_row import status_of
from wakelog.ports.rows import Listing

__all__ = ["matches"]


def matches(instance: Instance, listing: Listing) -> bool:
    """Whether the instance matches every field that the listing sets."""
    id, error, due_before_us = instance.id, instance.last_error, listing.due_before_us
    wake = None if due_before_us is None else next_wake(instance)
    return (
        (listing.kind is None or id.kind == listing.kind)
        and (listing.name is None or id.name == listing.name)
        and (listing.status is None or status_of(instance) == listing.status)
        and (listing.id_prefix is None or id.id.startswith(listing.id_prefix))
        and (due_before_us is None or (wake is not None and wake.due_us < due_before_us))
        and (
            listing.error_type is None
            or (error is not None and error.error_type == listing.error_type)
        )
        and (listing.updated_after_us is None or instance.recorded_us > listing.updated_after_us)
    )
