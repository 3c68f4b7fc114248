"""What the command line asks with and is answered: plain values, for JSON and for tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.history import HistoryEntry
from wakelog.results import InstanceRow, JobCount, WorkerStatus

__all__ = ["Given", "History", "Page", "Shown", "Team", "Totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Which instances are meant, in the words of the command line."""

    name: str | None
    status: str | None
    type: str | None
    prefix: str | None
    due_before: str | None
    updated_after: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The state of an instance, as JSON data, with how the instance stands."""

    instance_id: str
    version: int
    status: str
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The entries of an instance's history that were asked for, of those there are."""

    instance_id: str
    lives: int
    left_out: int
    """How many entries of the lives asked for are older than those shown."""
    entries: list[HistoryEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of instances; `next` is what `--after` goes on with, None on the last page."""

    instances: list[InstanceRow]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How many living instances match, job by job."""

    total: int
    running: int
    jobs: list[JobCount]


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The workers, at a moment."""

    now: datetime
    workers: list[WorkerStatus]
