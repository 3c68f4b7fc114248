"""Which instances a command is about: one, a whole job, or all that match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from wakelog.client.listing import Filters
    from wakelog_adapters.cli.context import Where
    from wakelog_adapters.cli.parsing import InstanceRef

__all__ = [
    "EventIds", "Events", "FilterOptions", "Matching", "Selection", "WaitingEvents", "chosen",
]  # fmt: skip


class Matching(NamedTuple):
    """All instances that match, or the first `limit` of them by id."""

    filters: Filters
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """The filters that every command on many instances has."""

    status: options.Status = None
    error: options.Error = None
    prefix: options.Prefix = None
    due_before: options.DueBefore = None

    def filters(self) -> Filters:
        """As the engine takes them. Raises `UsageError`."""
        from wakelog.client.listing import STATUSES
        from wakelog.clock import SystemClock
        from wakelog_adapters.cli.parsing import moment_or_duration

        if self.status is not None and self.status not in STATUSES:
            raise UsageError(f"--status {self.status!r} is none of {', '.join(STATUSES)}")
        now_us = SystemClock().now_us()
        return {
            "status": self.status,
            "error": self.error,
            "id_prefix": self.prefix,
            "due_before": moment_or_duration(self.due_before, now_us, "--due-before"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(FilterOptions):
    """What a command acts on, and how careful it is with many instances."""

    job: options.JobOrNone = None
    id: options.Id = None
    all: options.All = False
    limit: options.BulkLimit = None
    dry_run: options.DryRun = False
    yes: options.Yes = False

    @property
    def is_bulk(self) -> bool:
        """Whether it means all instances that match: a filter is given, or --all."""
        given = (self.status, self.error, self.prefix, self.due_before)
        return self.all or any(each is not None for each in given)

    def resolve(self, where: Where) -> InstanceRef | str | Matching:
        """One instance, a whole job by its name, or all that match.

        Raises `UsageError`, `UnknownJobError`, and what an invalid id raises.
        """
        from wakelog_adapters.cli.parsing import instance

        if self.id is not None or (self.job is not None and ":" in self.job):
            if self.is_bulk or self.limit or self.dry_run:
                words = " ".join(filter(None, [self.job, self.id]))
                raise UsageError(f"{words} is one instance: give no filters")
            return instance(self.job, self.id)
        if self.is_bulk:
            return self._matching(where)
        if self.limit or self.dry_run:
            raise UsageError("--limit and --dry-run need a filter, or --all")
        if self.job is None:
            raise UsageError(
                "nothing is named: write 'order o-17' for one instance, or give a filter such as "
                "--status failed"
            )
        return self.job

    def _matching(self, where: Where) -> Matching:
        if self.job is not None:
            where.needed_jobs().registry.job_of(self.job)
        filters = self.filters()
        filters["name"] = self.job
        return Matching(filters, self.limit)


EventIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[EVENT]...", help="Ids or places of events.", show_default=False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvents:
    """Which waiting events of a pool a command acts on."""

    event: EventIds = None
    all: Annotated[bool, typer.Option("--all", help="All that wait.")] = False
    partition_key: Annotated[
        str | None,
        typer.Option("--partition-key", metavar="KEY", help="Those with this partition key."),
    ] = None
    from_priority: Annotated[
        int | None,
        typer.Option("--from", metavar="NUMBER", help="Those that have this priority now."),
    ] = None
    dry_run: options.DryRun = False
    yes: options.Yes = False

    def filters(self) -> dict[str, Any]:
        """As the client takes them."""
        return {"partition_key": self.partition_key, "from_priority": self.from_priority}

    def chosen(self) -> list[str] | None:
        """The ids that are named, None if all that match are meant. Raises `UsageError`."""
        is_bulk = self.all or any(each is not None for each in self.filters().values())
        return chosen(self.event, "--partition-key KEY", "--from NUMBER", is_bulk=is_bulk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Which dead events of a pool a command acts on."""

    event: EventIds = None
    all: Annotated[bool, typer.Option("--all", help="All dead events of the pool.")] = False
    error: Annotated[
        str | None,
        typer.Option("--error", metavar="TYPE", help="Those with an error of this type."),
    ] = None
    dry_run: options.DryRun = False
    yes: options.Yes = False

    def chosen(self) -> list[str] | None:
        """The ids that are named, None if all that match are meant. Raises `UsageError`."""
        is_bulk = self.all or self.error is not None
        return chosen(self.event, "--error TYPE", is_bulk=is_bulk)


def chosen(events: list[str] | None, *filters: str, is_bulk: bool) -> list[str] | None:
    """The ids that are named, None if all that match are meant. Raises `UsageError`."""
    if events and is_bulk:
        raise UsageError(f"give events, or {' or '.join([*filters, '--all'])}, not both")
    if not events and not is_bulk:
        raise UsageError(f"nothing is named: give {', '.join(['events', *filters])}, or --all")
    return events or None
