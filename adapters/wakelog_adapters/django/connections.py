"""Django's database connections in handlers that run in threads."""

# pyright: basic
# Django ships no types.

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from wakelog.jobs import Jobs

__all__ = ["closing_connections"]


def closing_connections(jobs: Jobs) -> Jobs:
    """The same jobs: from now on, what a `def` handler did with Django's connections ends with it.

    Django keeps a connection for each thread and closes it after a request; a thread of wakelog's
    sees none. Around each `def` handler `close_old_connections` is called, as around a request:
    connections that are broken, or older than CONN_MAX_AGE, are closed. An `async def` handler
    calls the ORM by `sync_to_async`, whose threads are not wakelog's. Calling it again changes
    nothing.
    """
    for definition in jobs.registry:
        for name, handler in definition.handlers.items():
            if not (handler.is_async or hasattr(handler.fn, "closes_connections")):
                definition.handlers[name] = handler._replace(fn=_closing(handler.fn))
    return jobs


def _closing(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def handler(*arguments: Any) -> Any:
        from django.db import close_old_connections

        close_old_connections()
        try:
            return fn(*arguments)
        finally:
            close_old_connections()

    vars(handler)["closes_connections"] = True
    return handler
