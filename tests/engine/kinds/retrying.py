"""What the tests of retry share: a policy without jitter, handlers that fail as they are told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support import START, Ctx
from wakelog import Retry

__all__ = ["HOUR", "MINUTE", "SECOND", "SOON", "Cross", "Recoverer", "Run", "every"]

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SOON = {"schedule": 0}


class Cross(Exception):
    """Whatever user code raises."""


def every(delay: Any = "10s", **given: Any) -> Retry:
    """A policy without jitter."""
    return Retry(**{"max_attempts": 3, "jitter": 0, **given, "delay": delay})


class Run:
    """An `execute` that raises one exception after another (None: it ends well), and what of its
    context it saw each time. The last one is raised for ever."""

    def __init__(self, *raises: BaseException | None) -> None:
        self.raises = list(raises)
        self.seen: list[tuple[int, int, bool, str]] = []
        self.at: list[timedelta] = []

    def __call__(self, ctx: Ctx) -> None:
        self.seen.append((ctx.run_count, ctx.attempt, ctx.is_retry, ctx.trigger))
        self.at.append(ctx.now - START)
        ctx.set_state(f"dropped by attempt {ctx.attempt}")
        raised = self.raises.pop(0) if len(self.raises) > 1 else self.raises[0]
        if raised is not None:
            raise raised
        ctx.set_state(f"kept by attempt {ctx.attempt}")


class Recoverer:
    """An `on_error` or `on_retry_exhausted` that notes what it was told."""

    def __init__(self, then: Callable[[Ctx], Any] = lambda ctx: ctx.set_state("recovered")) -> None:
        self.then = then
        self.told: list[tuple[str, str, Any]] = []

    def __call__(self, ctx: Ctx, error: BaseException) -> None:
        self.told.append((ctx.error_source, str(error), ctx.state))
        self.then(ctx)
