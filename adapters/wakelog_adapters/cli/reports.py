"""What the command line asks with and is answered: plain values, for JSON and for tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.client.results import InstanceRow, JobCount, WorkerStatus
from wakelog.history.timeline import HistoryEntry

__all__ = ["CountReport", "Given", "HistoryReport", "PageReport", "StateReport", "WorkersReport"]


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
class StateReport:
    """The state of an instance, as JSON data, with how the instance stands."""

    instance_id: str
    version: int
    status: str
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryReport:
    """The entries of an instance's history that were asked for, of those there are."""

    instance_id: str
    lives: int
    left_out: int
    """How many entries of the lives asked for are older than those shown."""
    entries: list[HistoryEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReport:
    """A page of instances; `next` is what `--after` goes on with, None on the last page."""

    instances: list[InstanceRow]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountReport:
    """How many living instances match, job by job."""

    total: int
    running: int
    jobs: list[JobCount]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersReport:
    """The workers, at a moment."""

    now: datetime
    workers: list[WorkerStatus]
