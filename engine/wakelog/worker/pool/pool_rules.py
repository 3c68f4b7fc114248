"""The rules by which the partitions of a pool take, from its definition."""

from __future__ import annotations

from wakelog.definitions.worker_pool import WorkerPool
from wakelog.pools.takes import PoolRules

__all__ = ["rules_of"]


def rules_of(definition: WorkerPool[object], max_lost: int) -> PoolRules:
    """`max_lost`: how many workers in a row an event may cost."""
    rate, span_us = definition.rate_limit or (None, 0)
    return PoolRules(
        concurrency=definition.concurrency,
        ordered=definition.ordered,
        rate=rate,
        span_us=span_us,
        weights=definition.fair.weights if definition.fair else {},
        on_empty="on_empty" in definition.handlers,
        max_lost=max_lost,
    )
