"""One instance: of a registered job, to make a request; or of any job, to read about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic

from wakelog.app import App
from wakelog.definitions.schema import TypeSchema, issues_of
from wakelog.errors import ValidationError
from wakelog.ids import InstanceId
from wakelog.jobs import Jobs
from wakelog_adapters.cli.app import stdout_to_stderr
from wakelog_adapters.cli.context import Where, with_app
from wakelog_adapters.cli.exit_codes import UsageError
from wakelog_adapters.cli.job_types import INSTANCE_KINDS, POOL, check_verb, client_of
from wakelog_adapters.cli.parsing import InstanceRef

__all__ = ["Target", "find_target", "loaded", "look_up"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Target:
    """An instance of a registered job, and its store."""

    jobs: Jobs
    url: str
    id: InstanceId
    settings: Mapping[str, Any]
    """How the store is opened."""

    def run(self, verb: str, *values: Any, **options: Any) -> Any:
        """Open the store, call the method `verb` of the job's client, and close the store.

        Raises what that method raises, and as `opened` does.
        """

        async def call(app: App) -> Any:
            return await getattr(client_of(app, self.id), verb)(self.id.id, *values, **options)

        return with_app(self.url, self.jobs, call, **self.settings)

    def event(self, text: str) -> Any:
        """The event with this JSON text. Raises `ValidationError` with each issue."""
        definition = self.jobs.registry.of(self.id)
        return loaded(definition.event, text, f"event of {definition.name!r}")

    def input(self, text: str) -> Any:
        """The first state with this JSON text. Raises `ValidationError` with each issue."""
        definition = self.jobs.registry.of(self.id)
        return loaded(definition.state, text, f"input of {definition.name!r}")


def find_target(where: Where, ref: InstanceRef, verb: str, **settings: Any) -> Target:
    """The instance, of a job that is registered and whose type has the command `verb`.

    Raises `UsageError`, `UnknownJobError` and `UnknownActionError`.
    """
    with stdout_to_stderr():
        url = where.store_url()
        jobs = where.needed_jobs()
    id = _registered(jobs, ref)
    check_verb(id, verb)
    return Target(jobs, url, id, settings)


def look_up(
    where: Where,
    ref: InstanceRef,
    query: Callable[[App, InstanceId], Awaitable[R]],
    jobs: Jobs | None = None,
) -> R:
    """Ask about an instance, of a job that need not be registered.

    If only its job's name is given, the type of the job is looked up: in `jobs` or `--jobs` if
    there are any, else in the store. Raises `UsageError`, `UnknownJobError` and as `opened` does.
    """
    url = where.store_url()
    jobs = where.option_jobs() if jobs is None else jobs
    known = ref.full if jobs is None else _registered(jobs, ref)

    async def call(app: App) -> R:
        return await query(app, known or await _stored(app, ref))

    return with_app(url, jobs, call)


def _registered(jobs: Jobs, ref: InstanceRef) -> InstanceId:
    if ref.full is None:
        return InstanceId.parse(f"{jobs.registry.job_of(ref.name)}:{ref.id}")
    jobs.registry.of(ref.full)
    return ref.full


async def _stored(app: App, ref: InstanceRef) -> InstanceId:
    """The whole id, with the type of job under which the store has the instance."""
    ids = [InstanceId.parse(f"{kind}:{ref.name}:{ref.id}") for kind in INSTANCE_KINDS]
    stored = [id for id in ids if (await app.status_of(str(id))).version > 0]
    if len(stored) > 1:
        raise UsageError(f"{ref} may be any of {', '.join(map(str, stored))}: give the whole id")
    if not stored and any(pool.name == ref.name for pool in await app.pools()):
        return InstanceId.parse(f"{POOL}:{ref.name}:{ref.id}")
    return stored[0] if stored else ids[0]


def loaded(schema: TypeSchema[Any], text: str, what: str) -> Any:
    """The value with this JSON text. Raises `ValidationError` with each issue."""
    try:
        return schema.load(text)
    except pydantic.ValidationError as error:
        raise ValidationError(what, issues_of(error)) from None
