"""Which units of a group cannot be appended, and why: the one rule of all stores.

Pure. A store hands in what it has recorded and applies what passes; it decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from wakelog.errors import IntegrityError
from wakelog.ports.records import Newest
from wakelog.ports.units import (
    AlreadyReceived,
    InboxGone,
    JobPaused,
    KeptReply,
    KeyTaken,
    LeaseGone,
    Refused,
    Unit,
    VersionConflict,
)

__all__ = [
    "NO_EVENT",
    "RecordedFacts",
    "already_received",
    "conflict_of",
    "find_conflicts",
    "follows_refused",
    "has_expired",
    "has_gap",
    "inbox_conflict",
    "unseen_events",
]


NO_EVENT = Newest(0, "")
"""The newest event of a stream that has none."""


class RecordedFacts(Struct, frozen=True):
    """What a store has recorded about the streams and the keys of a group of units."""

    newest: Mapping[str, Newest]
    """The newest events of the streams, by their status rows; one that is missing has none."""
    lease_tokens: Mapping[str, int]
    """The tokens of their leases, of ended ones too."""
    reply_expiries: Mapping[tuple[str, str], int | None]
    """By stream and key, when the kept replies expire (None: never)."""
    paused_jobs: frozenset[str] = frozenset()
    """The jobs that are paused as a whole."""
    received: Mapping[tuple[str, str], int] = {}
    """By stream and sender, the version of the newest message that was taken."""
    inbox: frozenset[int] = frozenset()
    """Of the rows of the inbox that the units were made of, those that are there."""


def find_conflicts(
    units: Sequence[Unit], facts: RecordedFacts, faults: Mapping[int, Exception] = {}
) -> list[Exception | None]:
    """For each unit, in order: None, or the error that refuses it.

    A unit that passes changes the facts for those after it. After a refused unit all later units
    of its stream are refused. `faults` are known errors of units, by index; a conflict of the same
    unit takes precedence.
    """
    newest, tokens = dict(facts.newest), dict(facts.lease_tokens)
    expiries, received = dict(facts.reply_expiries), dict(facts.received)
    refused: set[str] = set()
    consumed: set[int] = set()
    errors: list[Exception | None] = []
    for index, unit in enumerate(units):
        stream, reply = unit.stream, unit.kept_reply
        error: Exception | None
        if stream in refused:
            error = follows_refused(unit)
        else:
            used = reply is not None and _is_used(unit, reply, expiries)
            before = newest.get(stream, NO_EVENT)
            paused = unit.unless_paused and unit.after.id.job in facts.paused_jobs
            error = inbox_conflict(unit, facts.inbox - consumed)
            error = error or conflict_of(unit, before, tokens.get(stream), used, paused)
            error = error or already_received(unit, received) or faults.get(index)
        errors.append(error)
        if error is not None:
            refused.add(stream)
            continue
        newest[stream] = Newest(unit.after.version, unit.hash)
        consumed.update(unit.inbox)
        if unit.take is not None:
            tokens[stream] = unit.take.token
        elif unit.ends_lease:
            tokens.pop(stream, None)
        if reply is not None:
            expiries[stream, reply.key] = reply.expires_us
        if unit.received is not None:
            received[stream, unit.received.sender] = unit.received.version
    return errors


def already_received(unit: Unit, received: Mapping[tuple[str, str], int]) -> AlreadyReceived | None:
    """Whether the message that it delivers was delivered, by stream and sender."""
    if unit.received is None:
        return None
    sender, version = unit.received
    if received.get((unit.stream, sender), 0) < version:
        return None
    return AlreadyReceived(f"{unit.stream} has taken {sender}@{version}")


def conflict_of(
    unit: Unit, newest: Newest, lease_token: int | None, is_key_used: bool, is_paused: bool
) -> Refused | None:
    """Why `unit` cannot be appended to a stream that ends with `newest` under the lease with
    `lease_token`; `is_paused` says that it must not start a run.

    The most final conflict comes first: a lost lease, a paused job, a used key, another version.
    """
    stream = unit.stream
    if unit.lease_token is not None and unit.lease_token != lease_token:
        return LeaseGone(f"the lease {unit.lease_token} of {stream} is gone")
    if is_paused:
        return JobPaused(f"{unit.after.id.job} is paused")
    if unit.kept_reply is not None and is_key_used:
        return KeyTaken(f"key {unit.kept_reply.key!r} of {stream} has been used")
    if newest.version != unit.base_version:
        text = f"{stream} is at version {newest.version}, not at {unit.base_version}"
        return VersionConflict(text)
    if newest.hash != unit.base_hash:
        return VersionConflict(f"version {newest.version} of {stream} has another hash")
    return None


def inbox_conflict(unit: Unit, there: Collection[int]) -> InboxGone | None:
    """Why `unit` cannot be appended while only these rows are in the inbox. To decide it anew would
    not help, so this conflict comes before all others."""
    gone = [n for n in unit.inbox if n not in there]
    return InboxGone(f"row {gone[0]} of the inbox, for {unit.stream}, is gone") if gone else None


def _is_used(unit: Unit, reply: KeptReply, expiries: Mapping[tuple[str, str], int | None]) -> bool:
    key = (unit.stream, reply.key)
    return key in expiries and not has_expired(expiries[key], unit.now_us)


def has_expired(expires_us: int | None, now_us: int) -> bool:
    """Whether a kept reply that expires at `expires_us` (None: never) may be replaced."""
    return expires_us is not None and expires_us <= now_us


def has_gap(unit: Unit) -> bool:
    """Whether its events and its instance do not have the versions after `base_version`."""
    version, events = unit.base_version + len(unit.events), unit.events
    return unit.after.version != version or (bool(events) and events[-1].version != version)


def follows_refused(unit: Unit) -> VersionConflict:
    """The conflict of a unit that comes after a refused one of its stream."""
    return VersionConflict(f"an earlier unit of {unit.stream} in the group was refused")


def unseen_events(unit: Unit) -> IntegrityError:
    """The error of a unit whose stream has events that its status row does not show.

    To try again would find the same: events were written to the log without the views.
    """
    detail = "the log has it, and the status row does not show it"
    return IntegrityError(unit.stream, unit.base_version + 1, detail)
