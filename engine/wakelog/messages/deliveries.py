"""Delivers what the handlers of jobs have sent to other jobs (I2).

Each process delivers what it has recorded itself, at once; workers look for what is left: a process
was killed, or a message was held back. Nobody owns a message: two processes may deliver it at the
same time, and the target takes it once, since it remembers how far it has taken each sender's.
Those of one pair are delivered in their order, each once the one before it is recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from itertools import groupby, islice

from wakelog.application import Application
from wakelog.client.gateway import RequestGateway
from wakelog.errors import StoreUnavailableError
from wakelog.messages.delivery import Delivered, deliver
from wakelog.ports.messages import Message
from wakelog.threads import log_failure

__all__ = ["Deliveries"]

_LOG = logging.getLogger("wakelog.messages")

POLL_S = 1.0
"""How often a worker looks for messages that are left."""
SENDERS = 500
"""Of so many senders messages are looked for at a time."""
PAGE = 1_000
"""Messages that are read at a time."""
PAIRS = 128
"""Pairs of which messages are delivered at a time: as many units go with one append."""


class Deliveries:
    """The deliveries of one process. Used on the app's event loop."""

    def __init__(self, app: Application, gateway: RequestGateway) -> None:
        self._app = app
        self._gateway = gateway
        self._noticed: dict[str, None] = {}
        """Senders of which there may be messages."""
        self._task: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._is_closing = False
        app.on_sent = self.notice

    def notice(self, senders: Iterable[str]) -> None:
        """These have sent something: deliver it soon. In a simulation `deliver_noticed` does."""
        self._noticed.update(dict.fromkeys(senders))
        is_at_work = self._task is not None and not self._task.done()
        if self._noticed and not (is_at_work or self._is_closing or self._is_inline):
            self._task = self._app.handler_runner.start(self._work())

    def poll(self) -> None:
        """Look for what is left, from now on."""
        self._polling = self._app.handler_runner.start(self._poll())

    async def close(self, grace_us: int) -> None:
        """Begin nothing new; what is being delivered may end within the grace. The rest is left to
        workers."""
        self._is_closing = True
        if self._polling is not None:
            self._app.handler_runner.stop(self._polling)
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=grace_us / 1_000_000)
            if not self._task.done():
                self._app.handler_runner.stop(self._task)

    async def deliver_noticed(self) -> bool:
        """Deliver all that has been noticed, and what is sent meanwhile; whether that was any.
        Raises `StoreUnavailableError`."""
        count = 0
        while self._noticed and not self._is_closing:
            senders = [*islice(self._noticed, SENDERS)]
            for sender in senders:
                del self._noticed[sender]
            count += await self._of_senders(senders)
        return count > 0

    async def notice_due(self) -> None:
        """Notice what is left and due. Raises `StoreUnavailableError`."""
        jobs, now_us = self._app.registry.jobs(), self._app.clock.now_us()
        due = self._app.store.messages_due
        self.notice(await self._app.threads.read(due, jobs, now_us, SENDERS))

    @property
    def _is_inline(self) -> bool:
        return self._app.handler_runner.inline

    async def _work(self) -> None:
        try:
            await self.deliver_noticed()
        except StoreUnavailableError as error:
            _LOG.warning("messages are delivered a little later: %s", error)
        except Exception as error:
            if not self._is_closing:
                log_failure(_LOG, "messages are delivered a little later", error=error)

    async def _poll(self) -> None:
        while not self._is_closing:
            try:
                await self.notice_due()
            except StoreUnavailableError as error:
                _LOG.debug("messages that are left are looked for a little later: %s", error)
            await asyncio.sleep(POLL_S)

    async def _of_senders(self, senders: Sequence[str]) -> int:
        """Deliver what these have sent, as far as it is not held back; how many were delivered."""
        total = 0
        while True:
            read = self._app.store.messages_of
            messages = await self._app.threads.read(read, senders, PAGE)
            count = await self._of_pairs(_pairs(messages))
            total += count
            if not count or len(messages) < PAGE or self._is_closing:
                return total

    async def _of_pairs(self, pairs: Sequence[Sequence[Message]]) -> int:
        if self._is_inline:
            return sum([await self._of_pair(pair) for pair in pairs])
        counts = 0
        waiting = iter(pairs)

        async def some() -> None:
            nonlocal counts
            for pair in waiting:
                counts += await self._of_pair(pair)

        at_a_time = (some() for _ in range(min(PAIRS, len(pairs))))
        ended = await asyncio.gather(*at_a_time, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return counts

    async def _of_pair(self, pair: Sequence[Message]) -> int:
        """Deliver the messages of a pair, in their order, up to one that is held back."""
        app, left = self._app, list[Message]()
        now_us, count = app.clock.now_us(), 0
        try:
            for message in pair:
                if self._is_closing or (message.held is not None and message.due_us > now_us):
                    break
                outcome = await deliver(app, self._gateway, message)
                if not isinstance(outcome, Delivered):
                    due_us = app.clock.now_us() + outcome.again_in_us
                    if message.held != outcome.why:
                        _LOG.warning("a message of %s to %s is held back: %s", message.sender,
                                     message.target, outcome.why)  # fmt: skip
                    hold = app.store.hold_message
                    await app.threads.write(hold, message, outcome.why, due_us)
                    break
                count += 1
                if not outcome.is_forgotten:
                    left.append(message)
        finally:
            if left:
                await app.threads.write(app.store.forget_messages, left)
        return count


def _pairs(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages by sender and target, each pair's in their order."""
    ordered = sorted(messages, key=lambda each: (each.sender, each.target, each.version))
    return [[*pair] for _, pair in groupby(ordered, key=lambda each: (each.sender, each.target))]
