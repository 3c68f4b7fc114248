"""What must hold of the messages between jobs, whatever was done, whichever process was killed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256

from wakelog.core.events import DeadLettered, EventReceived, MessageSent, Resumed, Started
from wakelog.log.records import Recorded
from wakelog.ports.pools import PoolLook
from wakelog.ports.store import Store

__all__ = ["check_messages"]

MOST = 100_000


def check_messages(store: Store, histories: Mapping[str, Sequence[Recorded]]) -> int:
    """Each message of these streams is to be delivered, or was taken once by its target, in the
    order of its pair, or is a dead letter of its sender; answers how many were taken."""
    taken = _taken(histories)
    waiting = {(m.sender, m.version) for m in store.messages_of([*histories], MOST)}
    count = 0
    for sender, history in histories.items():
        refused = {
            each.event.event_version
            for each in history
            if isinstance(each.event, DeadLettered) and each.event.reason == "refused"
        }
        for recorded in history:
            event, at = recorded.event, (sender, recorded.version)
            if not isinstance(event, MessageSent) or event.to is None:
                continue
            is_over = at not in waiting and recorded.version not in refused
            is_taken = _is_taken(store, taken, at, event, is_over)
            is_pool = event.to.startswith("workerPool:")  # taken, and then out of the outbox
            ends = [at in waiting and not (is_pool and is_taken), at[1] in refused, is_taken]
            assert ends.count(True) == 1, f"{at} to {event.to}: waiting, refused, taken: {ends}"
            count += ends[2]
    return count


def _taken(histories: Mapping[str, Sequence[Recorded]]) -> Mapping[str, list[str]]:
    """By target, the causes of what it has accepted."""
    taken: dict[str, list[str]] = defaultdict(list)
    for target, history in histories.items():
        causes = dict.fromkeys(
            each.cause
            for each in history
            if each.cause is not None and isinstance(each.event, EventReceived | Started | Resumed)
        )
        accepted = [e.cause for e in history if isinstance(e.event, EventReceived) and e.cause]
        assert len(set(accepted)) == len(accepted), f"{target} has taken a message twice"
        taken[target] = [*causes]
        _check_order(target, accepted)
    return taken


def _check_order(target: str, causes: Sequence[str]) -> None:
    newest: dict[str, int] = {}
    for cause in causes:
        sender, _, version = cause.rpartition("@")
        assert newest.get(sender, 0) < int(version), f"{target}: {cause} came too late"
        newest[sender] = int(version)


def _is_taken(
    store: Store,
    taken: Mapping[str, list[str]],
    at: tuple[str, int],
    event: MessageSent,
    is_over: bool,
) -> bool:
    assert event.to is not None
    name = f"{at[0]}@{at[1]}"
    if event.to.startswith("workerPool:"):
        id = name if len(name) < 256 else f"message-{sha256(name.encode()).hexdigest()}"
        return bool(store.pool_look(PoolLook(event.to, 0, ids=[id])).ids)
    if event.to.startswith("continuous:"):  # nothing is recorded if it was going on
        return is_over
    return name in taken.get(event.to, [])
