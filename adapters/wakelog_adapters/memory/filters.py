"""Which instances a listing means: what a database's WHERE says, on values."""

from __future__ import annotations

from wakelog.core.instance import Instance, next_wake
from wakelog.ports.rows import Listing
from wakelog_projections.inline import status

__all__ = ["matches"]


def matches(instance: Instance, listing: Listing) -> bool:
    """Whether all that the listing sets fits the instance."""
    id, error, due_before_us = instance.id, instance.last_error, listing.due_before_us
    wake = None if due_before_us is None else next_wake(instance)
    return (
        (listing.kind is None or id.kind == listing.kind)
        and (listing.name is None or id.name == listing.name)
        and (listing.status is None or status.word(instance) == listing.status)
        and (listing.id_prefix is None or id.id.startswith(listing.id_prefix))
        and (due_before_us is None or (wake is not None and wake.due_us < due_before_us))
        and (
            listing.error_type is None
            or (error is not None and error.error_type == listing.error_type)
        )
        and (listing.updated_after_us is None or instance.recorded_us > listing.updated_after_us)
    )
