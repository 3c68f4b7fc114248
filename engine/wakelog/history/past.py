"""Past states: an instance at a version or at a moment (H1)."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.bounds import at_least
from wakelog.core.instance import Instance
from wakelog.core.time import moment
from wakelog.errors import (
    HistoryError,
    InstanceNotFoundError,
    IntegrityError,
    Issue,
    UnreadableEventError,
    ValidationError,
    quoted,
)
from wakelog.history.timeline import checked
from wakelog.ids import InstanceId
from wakelog.kinds import BEHAVIOURS
from wakelog.log.rebuild import GENESIS, Head, load_heads, rebuilt, replayed
from wakelog.ports.records import Loaded
from wakelog.ports.store import Store

__all__ = ["MAX_VERSION", "PastState", "at_version", "state_at"]

MAX_VERSION = 1 << 62
"""Larger than any version, and within the integers of every store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastState:
    """An instance at one version."""

    instance_id: str
    version: int
    at: datetime | None
    """When that version was recorded; None before the first event."""
    status: str
    state: Any
    """The user's state as JSON data, None while unset."""
    scheduled_at: datetime | None
    event_count: int
    execute_count: int
    failure_count: int
    deferred_count: int
    executing: bool


def state_at(
    store: Store, id: InstanceId, *, version: int | None = None, at_us: int | None = None
) -> PastState:
    """The instance at `version`, or at the moment `at_us`: exactly one of them is given.

    Raises `InstanceNotFoundError`, `ValidationError` for a version beyond the newest one, and what
    `history` raises.
    """
    if (version is None) == (at_us is None):
        issue = Issue(loc="", msg="expected either version= or at=", type="arguments")
        raise ValidationError("state_at", [issue])
    if version is not None:
        return _past(at_version(store, id, version))
    head = Head(Instance(id), GENESIS)
    for after, recorded in checked(store, id):
        if at_us is not None and recorded.at_us > at_us:
            return _past(head)
        head = after
    if head.instance.version == 0:
        raise InstanceNotFoundError(str(id))
    return _past(head)


def at_version(store: Store, id: InstanceId, version: int) -> Head:
    """The instance at `version`, and its hash. Raises what `state_at` raises."""
    stream = str(id)
    at_least(0, "version", version, most=MAX_VERSION)
    nearest = store.snapshot_before(stream, version)
    after = nearest.version - 1 if nearest else 0
    loaded = Loaded(nearest, store.events(stream, after=after, upto=version))
    head = rebuilt(store, stream, loaded, upto=version)
    following = store.events(stream, after=version, limit=1)
    if following:  # it names the hash of the one before it, if it can be read
        with suppress(UnreadableEventError):
            list(replayed(head, following))
    elif version:
        newest = _newest(store, stream).instance.version
        if newest == 0:
            raise InstanceNotFoundError(stream)
        if newest < version:
            issue = Issue(loc="version", msg=f"the newest version is {newest}", type="bound")
            raise ValidationError(f"version {quoted(version)} of {stream}", [issue])
    if head.instance.version != version:
        raise IntegrityError(stream, version, "it is not in the log")
    return head


def _newest(store: Store, stream: str) -> Head:
    [head] = load_heads(store, [stream])
    if isinstance(head, HistoryError):
        raise head
    return head


def _past(head: Head) -> PastState:
    instance = head.instance
    return PastState(
        instance_id=str(instance.id),
        version=instance.version,
        at=moment(instance.recorded_us) if instance.version else None,
        status=BEHAVIOURS[instance.id.kind].status(instance),
        state=None if instance.state is None else json.loads(instance.state),
        scheduled_at=moment(instance.due_us),
        event_count=instance.event_count,
        execute_count=instance.run_count,
        failure_count=instance.failure_count,
        deferred_count=len(instance.deferred),
        executing=instance.run is not None,
    )
