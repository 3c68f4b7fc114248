"""WorkerPool: the definition of a partitioned queue, and the context of its handlers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, cast

from typing_extensions import TypeForm

from wakelog.arguments import check_key
from wakelog.bounds import at_least
from wakelog.core.calls import HandlerCall, PoolPlace
from wakelog.core.commands import HandlerName, KeepResult
from wakelog.core.instance import Instance
from wakelog.core.retry import Retry
from wakelog.core.time import Duration, duration_us
from wakelog.definitions.context import Context
from wakelog.definitions.definition import Definition, E, Maybe
from wakelog.definitions.handlers import HandlerSlot
from wakelog.definitions.messages import Accepts
from wakelog.definitions.return_type import result_schema
from wakelog.definitions.schema import TypeSchema
from wakelog.definitions.steps import StepRunner
from wakelog.errors import InvalidStateError, Issue, ValidationError, quoted
from wakelog.functions import plain_result, why_unfit
from wakelog.ids import Kind
from wakelog.kinds.behaviour import MAX_WAITING, Behaviour
from wakelog.kinds.worker_pool import WorkerPoolBehaviour

__all__ = ["Fair", "WorkerPool", "WorkerPoolContext"]

MAX_PARTITIONS = 64
"""How many items of one pool are worked on at a time, at most: one for each key slot."""


@dataclass(frozen=True, slots=True)
class Fair:
    """By what a pool shares its partitions fairly: a field of the event, or a function of it.

        WorkerPool(event=Mail, fair=Fair("tenant", weights={"big": 3}))

    A key without a weight has 1. Raises `ValidationError` for weights that are no mapping, a weight
    that is not above 0, and a function that is an `async def`.
    """

    by: str | Callable[[Any], str]
    weights: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        if not isinstance(self.by, str) and (unfit := why_unfit(self.by, 1)):
            raise _unfit("fair", unfit)
        if not isinstance(self.weights, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _unfit("fair", "weights= must be a mapping, as in {'big': 3}")
        for key, weight in self.weights.items():
            if not (isinstance(weight, int | float) and 0 < weight <= 1_000):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise _unfit("fair", f"the weight of {quoted(key)} must be above 0, at most 1000")

    def key_of(self, event: Any) -> str:
        """The key of an event. Raises `ValidationError` if it has none."""
        try:
            if callable(self.by):
                return str(plain_result(self.by(event)))
            if isinstance(event, dict):
                return str(cast("dict[str, Any]", event)[self.by])
            return str(getattr(event, self.by))
        except Exception as error:  # the function is the user's
            message = f"the key of fair sharing cannot be read: {type(error).__name__}: {error}"
            raise _unfit("fair", message) from error


class WorkerPoolContext(Context[None]):
    """A WorkerPool's view of one of its events during one call of one handler."""

    __slots__ = ("result_schema",)

    result_schema: TypeSchema[Any] | None
    """Of the result of `execute`, if results are kept; set by the definition."""

    def returned(self, result: Any) -> None:
        """Keep the result of `execute`. Raises `ValidationError` if it does not read back."""
        if self.result_schema is not None and self._call.handler == "execute":
            text, _ = self.result_schema.dump(result, self.job_name)
            self.commands.append(KeepResult(text))

    @property
    def event_id(self) -> str:
        """The id of the event: the one that the caller gave, or its place, as in `#3.17`."""
        return self.id

    @property
    def partition(self) -> int:
        """The partition that works on it, from 0."""
        return self._place.partition

    @property
    def partition_key(self) -> str | None:
        """The key that the caller gave."""
        return self._place.key

    @property
    def attempts(self) -> int:
        """The number of this attempt, from 1; in `on_dead_letter`, how many there were."""
        return self._place.attempt

    @property
    def processed_count(self) -> int:
        """How many events of the pool had ended well when this one was taken."""
        return self._place.processed

    @property
    def _place(self) -> PoolPlace:
        self._check()
        place = self._call.place
        if place is None:
            raise InvalidStateError(f"{self._call.handler} is not called with an event")
        return place


Execute = Callable[[WorkerPoolContext, E], Awaitable[Any] | Any]
OnDeadLetter = Callable[[WorkerPoolContext, E, Exception], Maybe]
Plain = Callable[[WorkerPoolContext], Maybe]


class WorkerPool(Definition, Generic[E]):
    """A durable queue that a fixed number of partitions, over all workers, work off.

        emails = WorkerPool(event=Email, concurrency=16, retry=Retry.standard(5))

        @emails.execute
        async def send(ctx: WorkerPoolContext, email: Email) -> None: ...

    `concurrency` (1 to 64) is how many events are worked on at a time, over all workers. With
    `ordered`, a failing event holds back those of its own partition key until it has ended.
    `retry` is the policy for failing events; without it one attempt is all. `rate_limit=(n, per)`:
    at most `n` runs start in any span `per`. `max_pending` bounds how many events may wait.
    `keep_results` records what `execute` returns. `fair` shares the partitions between keys, by
    the name of a field of the event, a function of it, or `Fair(…, weights=…)`.

    Raises `ValidationError` for what does not fit.
    """

    kind: ClassVar[Kind] = "workerPool"
    has_instances: ClassVar[bool] = False
    accepts: ClassVar[Accepts] = "enqueue"
    needs: ClassVar[HandlerName] = "execute"

    def __init__(
        self,
        *,
        event: TypeForm[E],
        concurrency: int = 5,
        ordered: bool = False,
        retry: Retry | None = None,
        rate_limit: tuple[int, Duration] | None = None,
        max_pending: int | None = None,
        keep_results: bool = False,
        fair: str | Callable[[E], str] | Fair | None = None,
    ) -> None:
        super().__init__(max_waiting=MAX_WAITING, max_running=None, retry=retry)
        at_least(1, "concurrency", concurrency)
        if concurrency > MAX_PARTITIONS:
            raise _unfit("concurrency", f"at most {MAX_PARTITIONS}: use more pools beyond that")
        if max_pending is not None:
            at_least(1, "max_pending", max_pending)
        if retry is not None and retry.on_exhausted not in (None, "dead_letter"):
            raise _unfit("retry.on_exhausted", "an event of a pool is dead-lettered: leave it out")
        self.state = TypeSchema[None](type(None), "state")
        self.event = TypeSchema[E](event, "event")
        self.concurrency = concurrency
        self.ordered = ordered
        self.rate_limit: tuple[int, int] | None = None
        if rate_limit is not None:
            if not isinstance(rate_limit, tuple | list) or len(rate_limit) != 2:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison]
                raise _unfit("rate_limit", "expected a number and a duration, as in (100, '1m')")
            count, span = rate_limit
            at_least(1, "rate_limit", count)
            self.rate_limit = count, duration_us(span, "rate_limit")
        self.max_pending = max_pending
        self.keep_results = keep_results
        self.fair = fair if isinstance(fair, Fair) or fair is None else Fair(fair)

    def message(self, value: Any) -> str:
        """As for any definition, for an event whose key of fair sharing fits too."""
        text, copy = self.event.dump(value, self.name)
        if self.fair is not None:
            check_key(self.fair.key_of(copy))
        return text

    def behaviour(self) -> Behaviour:
        """The answers of a WorkerPool."""
        return WorkerPoolBehaviour()

    def context(
        self, call: HandlerCall, instance: Instance, now_us: int, steps: StepRunner | None = None
    ) -> WorkerPoolContext:
        """The context of one call."""
        ctx = WorkerPoolContext(self.state, call, instance, now_us, self.resources, steps)
        ctx.result_schema = self._result
        return ctx

    @functools.cached_property
    def _result(self) -> TypeSchema[Any] | None:
        """The type of the result of `execute`, if it is kept."""
        if not self.keep_results:
            return None
        return result_schema(self.handlers["execute"].fn, None, "the result of execute")

    # -- handlers

    def arguments_of(self, name: HandlerName) -> tuple[str, ...]:
        """As for any definition; but each run has an event."""
        return ("ctx", "event") if name == "execute" else super().arguments_of(name)

    @property
    def execute(self) -> HandlerSlot[Execute[E]]:
        """Called with each event, under the lease of a partition: the place for effects."""
        return self._slot("execute")

    @property
    def on_dead_letter(self) -> HandlerSlot[OnDeadLetter[E]]:
        """Called with an event that has no attempt left, and its error."""
        return self._slot("on_dead_letter")

    @property
    def on_empty(self) -> HandlerSlot[Plain]:
        """Called when nothing is pending, delayed or retrying: once for each emptying."""
        return self._slot("on_empty")


def _unfit(loc: str, message: str) -> ValidationError:
    return ValidationError("worker pool", [Issue(loc=loc, msg=message, type="value")])
