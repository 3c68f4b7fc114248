"""Where a command works: which store, and whose jobs; from its options, else the environment."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from wakelog_adapters.cli import options
from wakelog_adapters.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from wakelog.app import App
    from wakelog.jobs import Jobs

__all__ = ["Echoes", "Where", "WhereToLook", "opened", "with_app", "without_secrets"]

_LOG = logging.getLogger("wakelog.cli")
R = TypeVar("R")
EXAMPLE_URL = "sqlite:///orders.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The `--jobs` and `--url` of a command, as given."""

    jobs: options.Jobs = None
    url: options.Url = None

    def store_url(self) -> str:
        """The URL of the store. Raises `UsageError` if none is named."""
        from wakelog_adapters.cli.environment import Environment

        url = self.url or Environment().url
        if not url:
            raise UsageError(f"no store is named: give --url {EXAMPLE_URL}, or set WAKELOG_URL")
        return url

    def reference(self) -> str | None:
        """The name of the jobs, as in `orders:jobs`; None if none are named."""
        from wakelog_adapters.cli.environment import Environment

        return self.jobs or Environment().jobs

    def needed_jobs(self) -> Jobs:
        """The jobs, for a command that cannot do without. Raises `UsageError`."""
        from wakelog_adapters.cli.environment import load_jobs

        reference = self.reference()
        if not reference:
            raise UsageError("no jobs are named: give --jobs orders:jobs, or set WAKELOG_JOBS")
        return load_jobs(reference)

    def option_jobs(self) -> Jobs | None:
        """The jobs that `--jobs` names, None without it. Raises `UsageError`."""
        from wakelog_adapters.cli.environment import load_jobs

        return None if self.jobs is None else load_jobs(self.jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereToLook(Where):
    """As `Where`, for a command that only reads: it needs no jobs."""

    jobs: options.KnownJobs = None


def with_app(
    url: str, jobs: Jobs | None, call: Callable[[App], Awaitable[R]], **settings: Any
) -> R:
    """Open the store, make one call, and close it again. Raises as `opened` does."""
    import asyncio

    from wakelog.jobs import Jobs

    async def main() -> R:
        with _without_echoes():
            async with opened(Jobs() if jobs is None else jobs, url, **settings) as app:
                return await call(app)

    return asyncio.run(main())


ECHO_S = 0.2
"""The same signal again within this time counts once: `timeout` and its like send it to a process
and to its group."""


class Echoes:
    """Tells a signal from its echo."""

    def __init__(self) -> None:
        self.last: tuple[int, float] | None = None
        """The last signal that was none, and its time by the monotonic clock."""

    def is_one(self, number: int) -> bool:
        """Whether the signal that has arrived is one."""
        now_s = time.monotonic()
        if self.last is not None and self.last[0] == number and now_s < self.last[1] + ECHO_S:
            return True
        self.last = number, now_s
        return False


@contextmanager
def _without_echoes() -> Generator[None]:
    """An interrupt cancels the call, and the store is closed; its echo must not break that off."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or before is signal.default_int_handler:  # it cancels nothing
        yield
        return
    echoes, is_over = Echoes(), False

    def handle(number: int, frame: FrameType | None) -> None:
        if not echoes.is_one(number):
            interrupt = signal.default_int_handler if is_over else before
            interrupt(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        is_over = True
        if echoes.last is None:  # else one may still come
            signal.signal(signal.SIGINT, before)


@asynccontextmanager
async def opened(
    jobs: Jobs, url: str, *, create: bool = False, **settings: Any
) -> AsyncGenerator[App]:
    """The open app. Without `create` a file that does not exist is an error, not a new store.

    Raises `UsageError` for an invalid URL or setting, and `StoreUnavailableError`.
    """
    from wakelog.errors import InvalidIdError, ValidationError

    if url.startswith("memory:"):
        _LOG.warning("a store in memory is seen by this process only, and ends with it")
    async with AsyncExitStack() as stack:
        try:
            if not create:
                _check_exists(url)
            app = await stack.enter_async_context(jobs.open(url, **settings))
        except InvalidIdError:
            raise
        except ValidationError as error:
            raise UsageError(str(error)) from None
        yield app


def without_secrets(url: str) -> str:
    """`url` as it may be shown: a password in it is masked."""
    masked = re.sub(r"(://[^:/@?]*:).*@", r"\1***@", url)
    return re.sub(r"([?&][^=&]*=)[^&]*", _masked_option, masked)


def _masked_option(option: re.Match[str]) -> str:
    """`?password=***` in place of its value; other options as they are."""
    return f"{option[1]}***" if "pass" in unquote(option[1]).lower() else option[0]


def _check_exists(url: str) -> None:
    """A typing error in a file's name must not yield "not_found", and leave an empty file."""
    if not url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return
    from wakelog.errors import StoreUnavailableError
    from wakelog_adapters.sqlite.url import parse

    path = parse(url).path
    if not os.path.exists(path):
        raise StoreUnavailableError("unreachable", f"there is no file {path}")
