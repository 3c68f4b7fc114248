"""The registry: definitions by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wakelog.definitions.definition import Definition
from wakelog.errors import Issue, UnknownJobError, UnknownJobTypeError, ValidationError, quoted
from wakelog.ids import KINDS, InstanceId, check_name

__all__ = ["Registry"]


class Registry:
    """Definitions by name. A name belongs to one definition, of whatever type."""

    def __init__(self, definitions: Mapping[str, Definition], resources: Any) -> None:
        self._by_name: dict[str, Definition] = {}
        self._sources: dict[int, str] = {}
        self._resources = resources
        self._limits: dict[str, int] = {}
        self._given: list[Definition] = []  # kept alive, so that their id() stays theirs
        for name, definition in definitions.items():
            self.add(name, definition)

    def add(self, name: str, definition: Definition) -> None:
        """Register a definition. Raises `ValidationError`, also for a name that is in use."""
        if not isinstance(definition, Definition):  # pyright: ignore[reportUnnecessaryIsInstance]
            issue = Issue(loc=name, msg="expected a definition, such as a Task(...)", type="type")
            raise ValidationError(f"job {quoted(name)}", [issue])
        if check_name(name) in self._by_name:
            issue = Issue(loc="name", msg="another job has this name", type="name")
            raise ValidationError(f"job {quoted(name)}", [issue])
        registered = definition.registered(name)
        if registered.resources is None:
            registered.resources = self._resources
        registered.targets = self
        if registered.max_running is not None:
            self._limits[registered.job] = registered.max_running
        self._by_name[name] = registered
        self._sources[id(definition)] = name
        self._given.append(definition)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._by_name

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._by_name.values())

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The registered names, of one type of job or of all. Raises `UnknownJobTypeError`."""
        if kind is not None and kind not in KINDS:
            raise UnknownJobTypeError(kind, KINDS)
        return tuple(d.name for d in self if kind is None or d.kind == kind)

    def jobs(self) -> tuple[str, ...]:
        """All jobs as `kind:name`."""
        return tuple(d.job for d in self)

    def chosen(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The jobs of these names, all if there are none. Raises `UnknownJobError`."""
        return tuple(map(self.job_of, names)) if names else self.jobs()

    def with_instances(self, jobs: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `jobs` whose work is done by instances."""
        return tuple(d.job for d in self if d.has_instances and d.job in jobs)

    def without_threads(self, jobs: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `jobs` of which no handler is called in a thread."""
        called = {d.job: d.handlers.values() for d in self if d.job in jobs}
        return tuple(job for job in jobs if all(each.is_async for each in called[job]))

    def limits(self) -> Mapping[str, int]:
        """The most concurrent runs of the jobs that have a limit, by `kind:name`."""
        return self._limits

    def job_of(self, job: Definition | str) -> str:
        """`kind:name` of a registered name, or of the definition object that was given.

        Raises `UnknownJobError`, and `ValidationError` for anything else.
        """
        return self.target(job).job

    def target(self, job: Definition | str) -> Definition:
        """The registered definition of a name or of the definition object that was given, of
        whatever type. Raises as `job_of`."""
        name = self._name_of(job)
        found = self._by_name.get(name)
        if found is None:
            raise UnknownJobError(name, self.names())
        return found

    def find(self, job: Definition | str, kind: str) -> Definition:
        """The registered definition of a name or of the definition object that was given.

        Raises `UnknownJobError`, and `ValidationError` for anything else.
        """
        return self._named(self._name_of(job), kind)

    def of(self, instance: InstanceId) -> Definition:
        """The definition of an instance. Raises `UnknownJobError`."""
        return self._named(instance.name, instance.kind)

    def _name_of(self, job: Definition | str) -> str:
        if not isinstance(job, Definition | str):  # pyright: ignore[reportUnnecessaryIsInstance]
            issue = Issue(loc="", msg="expected a definition, or its name", type="type")
            raise ValidationError(f"job {quoted(job)}", [issue])
        return job if isinstance(job, str) else self._sources.get(id(job), "")

    def _named(self, name: str, kind: str) -> Definition:
        found = self._by_name.get(name)
        if found is None or found.kind != kind:
            other = None if found is None else found.kind
            raise UnknownJobError(name, self.names(kind), kind, other)
        return found
