"""Jobs: definitions under their names, and opening a store."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from wakelog.affinity import refuse_in_loop
from wakelog.app import App
from wakelog.application import Application
from wakelog.blocking import BlockingApp
from wakelog.blocking.portal import LoopPortal, ThreadPortal
from wakelog.bounds import at_least
from wakelog.clock import SystemClock
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, duration_us
from wakelog.definitions.definition import Definition
from wakelog.definitions.registry import Registry
from wakelog.errors import (
    InvalidStateError,
    Issue,
    NotOpenedError,
    StoreUnavailableError,
    ValidationError,
    quoted,
)
from wakelog.follow.jobs import (
    OnMessage,
    Policy,
    Source,
    following_application,
    following_own,
)
from wakelog.follow.tracker import Publisher, tracking
from wakelog.loop_thread import LoopThread
from wakelog.ports.alarm_clock import AlarmClock, Claimant
from wakelog.settings import Settings, WorkerSettings
from wakelog.threads import log_failure

__all__ = ["Jobs", "OpenOptions", "Opening", "loaded", "open_store"]

F = TypeVar("F", bound=OnMessage)

_LOG = logging.getLogger("wakelog.jobs")

STORES = "wakelog.stores"
_FILE = re.compile(r"[\w./-]+\.(db|sqlite3?)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
ALARM_CLOCKS = "wakelog.alarm_clocks"


class OpenOptions(TypedDict, total=False):
    """The options of `Jobs.open`, which says what each is, as its two siblings take them."""

    worker: bool
    handlers: bool
    concurrency: int
    only: tuple[str, ...] | list[str]
    grace: Duration
    lease: Duration
    max_lost: int
    cache: int
    threads: int
    snapshot_every: int
    idempotency_window: Duration


class Jobs:
    """A set of definitions, each under the name it is given as a keyword.

        jobs = Jobs(order=order, invoice=invoice, resources=services)

    Nothing is global: several may live in one process, on one or several stores. `resources` is
    what handlers find as `ctx.resources`, unless their definition brings its own.
    """

    def __init__(self, *, resources: Any = None, **definitions: Definition) -> None:
        self.registry = Registry(definitions, resources)

    def follow(
        self, application: Source, policy: Policy, *, name: str, retry: Retry | None = None
    ) -> None:
        """Let the domain events of another `eventsourcing` application drive jobs: add a job that
        calls `policy(ctx, event)` with each of them, in order, from the first one on.

            jobs.follow(accounts, welcome, name="accounts")

        `policy`, a `def`, sends with `ctx.send`, `ctx.start` and `ctx.enqueue`. What it sends and
        how far the job has followed are recorded in one append, so it is sent once; the policy
        itself may be called again if a worker was lost. One that fails is called again after a
        while, by `retry` if given (without end, 1 s to 1 min apart), and holds back the events
        behind it. Workers look for new events five times a second.

        The job is a Task with one instance, `task:NAME:follower`, whose state is the position: look
        at it, pause it and retry it as any other. Raises `ValidationError`.
        """
        self.registry.add(name, following_application(application, policy, retry))

    def follower(
        self, name: str, *, topics: Sequence[str] = (), retry: Retry | None = None
    ) -> Callable[[F], F]:
        """Decorate the handler of a follower: workers call it with each message that handlers emit
        on these topics (`ctx.emit`), in order, from the first one on.

            @jobs.follower("mailer", topics=["paid", "order.*"])
            async def mail(ctx: TaskContext[int], message: CloudEvent) -> None: ...

        At least once: after a crash a message may come again, with the same `id`. One that fails is
        tried again after a while, by `retry` if given (without end, 1 s to 1 min apart), and holds
        back those behind it. One worker at a time follows. The follower is a Task with one
        instance, `task:NAME:follower`, whose state is the position. Raises `ValidationError`.
        """

        def registered(on_message: F) -> F:
            self.registry.add(name, following_own(topics, on_message, retry))
            return on_message

        return registered

    def track(
        self,
        publisher: Publisher,
        *,
        name: str = "tracker",
        env: str | None = None,
        service_key: str | None = None,
    ) -> None:
        """Let workers tell a tracker what happens to jobs: `publisher.publish(batch)` is called
        with batches of events such as `job.started`, in order, at least once, off every request's
        path. `env` and `service_key` go with each event.

        It is a Task with one instance, `task:NAME:follower`: pause it, look at its failures. `app.
        until(position, "tracker")` waits until all is published, `app.pending("tracker")` is how
        many events are not. Raises `ValidationError`.
        """
        self.registry.add(name, tracking(publisher, env, service_key))

    def __contains__(self, name: object) -> bool:
        return name in self.registry

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The registered names, of one type of job or of all. Raises `UnknownJobTypeError`."""
        return self.registry.names(kind)

    def open(
        self,
        url: str,
        *,
        worker: bool = False,
        handlers: bool = True,
        concurrency: int = 100,
        only: tuple[str, ...] | list[str] = (),
        grace: Duration = "30s",
        lease: Duration = "30s",
        max_lost: int = 5,
        cache: int = 10_000,
        threads: int = 40,
        snapshot_every: int = 100,
        idempotency_window: Duration = "7d",
    ) -> Opening:
        """Open the store at `url` (`sqlite:///orders.db`, `memory://`): use the result as a
        context, `with` for the blocking app, `async with` for the async one.

        `worker`: this process runs what is due, `concurrency` instances at a time, of all jobs or
        of those named in `only`. Without it the process is a client only: alarms wait for another
        process that is a worker. `handlers=False`: `on_event` is not called here either, all events
        are deferred to the workers. Leaving the context lets runs and requests that have begun end
        within `grace`.

        `lease` is how long a worker may be silent before its runs are taken over, `max_lost` how
        many workers in a row one run may cost; `cache` is how many instances are kept in memory,
        `threads` how many `def` handlers run at a time, `snapshot_every` how many events lie
        between two snapshots, `idempotency_window` how long keys are remembered. Numbers are at
        most 100,000,000. Raises `ValidationError` for a value out of bounds.

        Entering it raises `StoreUnavailableError`, and `ThreadsExhaustedError` if a thread that the
        app needs cannot be started.
        """
        at_least(1, "threads", threads)
        works = WorkerSettings(concurrency=concurrency, only=_names(only))
        settings = Settings(
            cache=cache,
            snapshot_every=snapshot_every,
            threads=max(threads, concurrency) if worker else threads,
            idempotency_window_us=duration_us(idempotency_window, "idempotency_window"),
            lease_us=duration_us(lease, "lease"),
            max_lost=max_lost,
            grace_us=duration_us(grace, "grace"),
        )
        return Opening(self.registry, url, settings, works if worker else None, handlers)

    def open_blocking(self, url: str, **options: Unpack[OpenOptions]) -> BlockingApp:
        """The blocking app, open, for places without `with`: end it with `app.close()`.

        Any thread may use it. `atexit.register(app.close)` ends it with the process; a process that
        is killed, or ends without that, has its runs taken over when their leases end. The options
        are those of `open`, and so is what it raises; nothing is left open by a call that raises.
        """
        return self.open(url, **options).__enter__()

    async def open_async(self, url: str, **options: Unpack[OpenOptions]) -> App:
        """The async app, open on this event loop, for places without `async with`: end it there
        with `await app.close()`. Otherwise as `open_blocking`."""
        return await self.open(url, **options).__aenter__()


class Opening:
    """An app about to be opened; each opening can be entered once."""

    def __init__(
        self,
        registry: Registry,
        url: str,
        settings: Settings,
        worker: WorkerSettings | None,
        handlers: bool,
    ) -> None:
        self._registry = registry
        self._url = url
        self._settings = settings
        self._worker = worker
        self._handlers = handlers
        self._entered = False
        self._app: App | None = None
        self._blocking: BlockingApp | None = None
        self._thread: LoopThread | None = None

    if not TYPE_CHECKING:  # for a type checker there is no attribute of an app

        def __getattr__(self, name: str) -> Any:
            if hasattr(BlockingApp, name) and not name.startswith("_"):
                raise NotOpenedError(name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def __aenter__(self) -> App:
        if self._entered:
            raise InvalidStateError("this opening was used before: call jobs.open(...) again")
        self._entered = True
        _check_loop()
        factory = open_store(self._url)
        try:
            application = Application(factory, self._registry, SystemClock(), self._settings)
        except BaseException:
            factory.close()
            raise
        self._app = app = App(application, handlers=self._handlers, make_blocking=_beside)
        if self._worker is not None:
            try:
                await app.start_worker(self._worker, _alarm_clock())
            except BaseException:
                await app.close(grace=0)
                raise
        return app

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._app is not None:
            with _noting(error):
                await self._app.close()

    def __enter__(self) -> BlockingApp:
        refuse_in_loop()
        self._thread = thread = LoopThread()
        try:
            app = thread.call(self.__aenter__())
        except BaseException:
            thread.stop()
            raise
        self._blocking = BlockingApp(app, ThreadPortal(thread, app))
        return self._blocking

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        blocking, thread = self._blocking, self._thread
        if blocking is None or thread is None or blocking.app.application.affinity.is_inherited:
            return
        try:
            with _noting(error):
                blocking.close()
        finally:
            thread.stop()


def _beside(app: App) -> BlockingApp:
    return BlockingApp(app, LoopPortal(app))


@contextmanager
def _noting(error: BaseException | None) -> Generator[None]:
    """Closing after `error` must not replace it: what closing raises becomes a note of it."""
    try:
        yield
    except Exception as raised:
        if error is None:
            raise
        error.add_note(f"The app could not be closed: {raised}")
        log_failure(_LOG, "the app could not be closed", error=raised)


def open_store(url: str) -> Any:
    """The persistence factory for a URL, by its scheme among the installed stores.

    Raises `StoreUnavailableError`, and `ValidationError` for what is not a URL. Neither says more
    of the URL than its scheme: it may hold a password.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        issue = Issue(loc="", msg="expected a URL such as 'sqlite:///jobs.db'", type="type")
        raise ValidationError(f"store URL of type {type(url).__name__}", [issue])
    found = _SCHEME.match(url)
    stores = entry_points(group=STORES)
    if found is None or found[1] not in stores.names:
        raise unknown_scheme(url, stores.names)
    return loaded(stores[found[1]])(url)


def _check_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        message = "the async app runs on asyncio, and no loop of asyncio runs here"
        instead = "on another loop use `with jobs.open(…)` in a thread"
        raise InvalidStateError(f"{message}: {instead}") from None


def unknown_scheme(url: str, known: Collection[str], fault: str = "") -> StoreUnavailableError:
    """The error of a URL that has none of the `known` schemes, with what to write instead, or else
    the `fault` of its scheme."""
    found = _SCHEME.match(url)
    scheme = found[1] if found else ""
    bare = scheme.partition("+")[0]
    if not scheme:
        file = url if _FILE.fullmatch(url) else "orders.db"
        given = f"this is not a URL; for a file write sqlite:///{file}"
    elif bare in known:
        given = f"{scheme}://; write {bare}://, without the name of a driver"
    else:
        given = f"{scheme}://{fault}"
    schemes = ", ".join(f"{name}://" for name in sorted(known) if "+" not in name)
    return StoreUnavailableError("unknown_scheme", f"{given} (expected {schemes})")


def loaded(store: EntryPoint) -> Callable[[str], Any]:
    """What opens a kind of store. Raises `StoreUnavailableError` if its driver is missing."""
    try:
        opener: Callable[[str], Any] = store.load()
    except ImportError as error:
        raise StoreUnavailableError("not_installed", f"{store.name}:// ({error})") from error
    return opener


def _names(only: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    if isinstance(only, str):  # a sequence of one-letter names, too
        issue = Issue(loc="", msg=f"give a list: [{quoted(only)}]", type="type")
        raise ValidationError(f"only {quoted(only)}", [issue])
    if not isinstance(only, list | tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        issue = Issue(loc="", msg="give a list of names; an empty one means all", type="type")
        raise ValidationError(f"only {quoted(only)}", [issue])
    return tuple(only)


def _alarm_clock() -> Callable[[Claimant], AlarmClock]:
    make: Callable[[Claimant], AlarmClock] = entry_points(group=ALARM_CLOCKS)["apscheduler"].load()
    return make
