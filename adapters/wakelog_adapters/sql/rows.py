"""Rows as stores read them: what something else has changed is told, and never handed on.

A status row has a checksum, and an event is in a chain; the rows here have neither: their fields
must be of the right types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import msgspec

from wakelog.errors import StoreUnavailableError
from wakelog.ports.messages import Message
from wakelog.ports.rows import WorkerRow
from wakelog.ports.units import Lease

__all__ = ["can_be_stored", "damaged", "lease", "message", "readable", "worker_row"]

P = ParamSpec("P")
R = TypeVar("R")


def readable(read: Callable[P, R]) -> Callable[P, R]:
    """A method that reads rows: it raises `StoreUnavailableError` ("damaged") for rows that are
    not as the store writes them."""

    @functools.wraps(read)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except UnicodeEncodeError:  # of an argument
            raise
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
            raise damaged(error) from error

    return checked


def damaged(error: Exception) -> StoreUnavailableError:
    """What is raised for a row that cannot be read because of `error`."""
    detail = f"a row is not as it was written: {type(error).__name__}: {error}"
    return StoreUnavailableError("damaged", detail)


def worker_row(values: Sequence[Any]) -> WorkerRow:
    """A row of the table `workers`. Raises `ValueError`."""
    name, jobs, *rest = values
    return msgspec.convert([name, msgspec.json.decode(jobs), *rest], WorkerRow)


def lease(owner: object, until_us: object, token: object, run: object) -> Lease:
    """A row of the table `leases`. Raises `ValueError`."""
    fields = {"owner": owner, "until_us": until_us, "token": token, "run": bool(run)}
    return msgspec.convert(fields, Lease)


def message(values: Sequence[Any]) -> Message:
    """A row of the table `outbox`, and its event. Raises `ValueError`."""
    *row, event = values
    return Message(*msgspec.convert(row, tuple[str, int, str, int, int, str | None]), event)


def can_be_stored(text: str) -> bool:
    """Whether a text column can hold it. If not, no row has it, and a search finds nothing."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
