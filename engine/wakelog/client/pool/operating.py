"""What operators do to a pool and its events: planned under the lock, each in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from wakelog.application import Application
from wakelog.arguments import check_key
from wakelog.client.gateway import origin_of
from wakelog.client.pool.reading import Located, dead_letters, locate, pool_event
from wakelog.client.pool.results import CancelResult, ItemsResult, PoolControl, RebuildResult
from wakelog.client.pool.waiting_events import PAGE, WaitingFilter, unread_events, waiting_events
from wakelog.errors import InstanceNotFoundError, StoreUnavailableError
from wakelog.log.batches import read_item
from wakelog.pools.items import Slices
from wakelog.pools.operate import (
    Found,
    ItemAct,
    plan_act,
    plan_drain,
    plan_pause,
    plan_resume,
)
from wakelog.pools.rebuild import check_tables, rebuild_tables
from wakelog.pools.takes import PoolRules
from wakelog.pools.writing import Writing
from wakelog.ports.pools import ExceptionKey, PoolLook, PoolSeen, SegmentRow

__all__ = ["Operator"]

TRIES, PAUSE_S = 40, 0.05
"""How often, and after which pauses, it is looked whether a taken event was given back."""

_SKIPPED: dict[Found, str] = {
    "not_found": "not_found",
    "taken": "already_processing",
    "recalled": "already_processing",
    "dead": "dead",
    "unchanged": "unchanged",
}


class Operator:
    """Operates one pool."""

    def __init__(self, app: Application, job: str) -> None:
        self._app = app
        self._job = job

    # -- the pool

    async def pause(
        self, partition: int | None, reason: str | None, actor: str | None
    ) -> PoolControl:
        """See `WorkerPoolClient.pause`."""
        return await self._control(
            lambda writing: plan_pause(writing, partition, reason, actor), reason, "paused", actor
        )

    async def resume(self, partition: int | None, actor: str | None) -> PoolControl:
        """See `WorkerPoolClient.resume`."""
        return await self._control(
            lambda writing: plan_resume(writing, partition, actor), None, "not_paused", actor
        )

    async def drain(self, reason: str | None, actor: str | None) -> PoolControl:
        """See `WorkerPoolClient.drain`."""
        return await self._control(
            lambda writing: plan_drain(writing, reason, actor), reason, "draining", actor
        )

    async def rebuild(self, rules: PoolRules, *, dry_run: bool) -> RebuildResult:
        """See `WorkerPoolClient.rebuild`."""
        app = self._app
        if dry_run:
            found = await app.threads.browse(check_tables, app.store, self._job, rules)
        else:
            found = await app.threads.browse(rebuild_tables, app.store, self._job, rules)
            app.pools.on_call(self._job)
        return RebuildResult(
            events=found.events, differences=tuple(found.differences), dry_run=dry_run
        )

    async def _control(
        self,
        plan: Callable[[Writing], bool],
        reason: str | None,
        otherwise: str,
        actor: str | None,
    ) -> PoolControl:
        origin_of(actor, None)
        pools = self._app.pools
        meta = pools.meta()
        look = PoolLook(self._job, meta.now_us)
        done = await pools.call(look, lambda writing, seen: plan(writing), meta=meta)
        return PoolControl(done=done, reason=reason if done else otherwise)

    # -- events

    async def cancel(self, event_id: str, reason: str | None, actor: str | None) -> CancelResult:
        """See `WorkerPoolClient.cancel_event`."""
        origin_of(actor, None)
        try:
            located = await locate(self._app, self._job, event_id)
        except InstanceNotFoundError:
            return CancelResult(event_id=event_id, status="not_found")
        act = ItemAct("cancel", reason, actor=actor)
        [found] = await self._act([located], act, dry_run=False)
        if found == "recalled":
            found = await self._given_back(located, act)
        word: Literal["cancelled", "not_found", "already_processing", "already_completed"]
        if found == "done":
            word = "cancelled"
        elif found == "taken":
            word = "already_processing"
        else:
            word = "already_completed" if await self._is_known(located) else "not_found"
        return CancelResult(event_id=event_id, status=word)

    async def _given_back(self, located: Located, act: ItemAct) -> Found:
        """Wait until the worker that has taken it has given it back for that; what was found at the
        end. One that has begun by then is let go. Raises `StoreUnavailableError`."""
        tries = 1 if self._app.handler_runner.inline else TRIES
        over = {"cancel": "cancelled", "discard": "discarded"}[act.act]
        found: Found = "recalled"
        for left in reversed(range(tries)):
            if left:
                await asyncio.sleep(PAUSE_S)
            try:
                [found] = await self._act([located], act._replace(is_last=not left), dry_run=False)
            except StoreUnavailableError as error:  # what was asked for is recorded
                detail = f"it is not known whether {located.event_id} was {over}: {error.detail}"
                raise StoreUnavailableError(error.reason, detail) from error
            if found != "recalled":
                break
        if found == "not_found":
            event = await pool_event(self._app, self._job, located)
            return "done" if event.status == over else found
        return found

    async def _is_known(self, located: Located) -> bool:
        ranges = [(located.lane, located.off - 1, located.off)]
        return bool(await self._app.threads.read(self._app.store.pool_slices, self._job, ranges))

    async def prioritize(
        self,
        priority: int,
        which: Sequence[str] | WaitingFilter,
        actor: str | None,
        *,
        dry_run: bool,
    ) -> ItemsResult:
        """See `WorkerPoolClient.set_priority`."""
        origin_of(actor, None)
        act = ItemAct("prioritize", None, priority, actor)
        if not isinstance(which, WaitingFilter):
            return await self._each(act, which, dry_run=dry_run)
        which = which._replace(other_than=priority)
        return await self._all(act, waiting_events(self._app, self._job, which), dry_run=dry_run)

    async def give_up_unread(
        self, event_ids: Sequence[str] | None, actor: str | None, *, dry_run: bool
    ) -> ItemsResult:
        """See `WorkerPoolClient.dead_letter`."""
        act = ItemAct("dead_letter", actor=actor)
        if event_ids is not None:
            return await self._each(act, event_ids, dry_run=dry_run)
        origin_of(actor, None)
        return await self._all(act, unread_events(self._app, self._job), dry_run=dry_run)

    async def _all(
        self, act: ItemAct, pages: AsyncIterator[list[Located]], *, dry_run: bool
    ) -> ItemsResult:
        """To all that wait and match. Those that do not any longer are left out, but for those that
        were taken."""
        done: list[str] = []
        skipped: dict[str, str] = {}
        async for located in pages:
            found = await self._act(located, act, dry_run=dry_run)
            for each, what in zip(located, found, strict=True):
                if what == "done":
                    done.append(each.event_id)
                elif what == "taken":
                    skipped[each.event_id] = _SKIPPED[what]
        return ItemsResult(events=tuple(done), skipped=skipped, dry_run=dry_run)

    async def dead(
        self,
        what: Literal["requeue", "discard"],
        event_ids: Sequence[str] | None,
        error: str | None,
        reason: str | None,
        actor: str | None,
        *,
        dry_run: bool,
    ) -> ItemsResult:
        """See `WorkerPoolClient.requeue` and `discard`."""
        act = ItemAct(what, reason, actor=actor)
        if event_ids is not None:
            return await self._each(act, event_ids, dry_run=dry_run)
        after: str | None = None
        events: list[str] = []
        skipped: dict[str, str] = {}
        while True:
            page = await dead_letters(self._app, self._job, limit=PAGE, after=after, error=error)
            if not page:
                return ItemsResult(events=tuple(events), skipped=skipped, dry_run=dry_run)
            result = await self._each(act, [letter.item for letter in page], dry_run=dry_run)
            named = {letter.item: letter.event_id for letter in page}
            events += [named[item] for item in result.events]
            skipped |= {named[item]: why for item, why in result.skipped.items()}
            after = page[-1].item

    async def _each(self, act: ItemAct, event_ids: Sequence[str], *, dry_run: bool) -> ItemsResult:
        origin_of(act.actor, None)
        done: list[str] = []
        skipped: dict[str, str] = {}
        for at in range(0, len(event_ids), PAGE):
            located: list[Located] = []
            for event_id in dict.fromkeys(map(check_key, event_ids[at : at + PAGE])):
                try:
                    located.append(await locate(self._app, self._job, event_id))
                except InstanceNotFoundError:
                    skipped[event_id] = "not_found"
            found = await self._act(located, act, dry_run=dry_run) if located else []
            for each, first in zip(located, found, strict=True):
                is_recalled = first == "recalled" and not dry_run
                what = await self._given_back(each, act) if is_recalled else first
                if what == "done":
                    done.append(each.event_id)
                else:
                    skipped[each.event_id] = _SKIPPED[what]
        return ItemsResult(events=tuple(done), skipped=skipped, dry_run=dry_run)

    async def _act(self, located: Sequence[Located], act: ItemAct, *, dry_run: bool) -> list[Found]:
        keys = [ExceptionKey(each.lane, each.off) for each in located]
        segments = await self._segments(keys)
        pools = self._app.pools
        meta = pools.meta()
        behind = sorted({key for _, key in segments.values() if key is not None})
        look = PoolLook(self._job, meta.now_us, keys=keys, behind=behind)

        def plan(writing: Writing, seen: PoolSeen) -> list[Found]:
            return plan_act(writing, seen, keys, act, segments.get)

        if dry_run:
            seen = await pools.look(look)
            return plan(Writing(self._job, seen, meta, pools.salts), seen)
        return await pools.call(look, plan, meta=meta)

    async def _segments(
        self, keys: Sequence[ExceptionKey]
    ) -> dict[ExceptionKey, tuple[SegmentRow, str | None]]:
        """Where each was accepted, and its partition key. Events never move, so no lock is
        needed."""
        ranges = [(key.lane, key.off - 1, key.off) for key in keys]
        read = self._app.threads.read
        slices = Slices(self._job, await read(self._app.store.pool_slices, self._job, ranges))
        found: dict[ExceptionKey, tuple[SegmentRow, str | None]] = {}
        for key in keys:
            for _, segment, line in slices.found(key.lane, key.off):
                item = read_item(line)
                found[key] = segment, None if item is None else item.key
        return found
