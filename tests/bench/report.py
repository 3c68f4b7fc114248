"""The one table, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.measuring import Row, Used

__all__ = ["as_json", "as_markdown", "line"]

HEADER = (
    "| workload | store | case | size | figure | floor | ratio | mean batch | p50 ms | p99 ms "
    "| processor time | target |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|---|"
)


def as_markdown(facts: dict[str, str], rows: Iterable[Row]) -> str:
    """The facts, then the table."""
    said = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return f"{said}\n\n{HEADER}\n" + "".join(line(row) + "\n" for row in rows)


def line(row: Row) -> str:
    """One line of the table."""
    cells = (
        row.workload,
        row.store,
        row.case,
        f"{row.size:,}",
        f"{_number(row.value)} {row.unit}",
        _number(row.floor),
        "" if row.ratio is None else f"{row.ratio:.0%}",
        _number(row.mean_batch),
        _number(row.p50_ms),
        _number(row.p99_ms),
        _processor(row.used),
        row.target,
    )
    return f"| {' | '.join(cells)} |"


def as_json(facts: dict[str, str], rows: Sequence[Row]) -> str:
    """The same, and every round and count."""
    said: dict[str, Any] = {**facts, "rows": [asdict(row) for row in rows]}
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def _processor(used: Used | None) -> str:
    """Of one run, by who has used it."""
    if used is None:
        return ""
    server = "" if used.server_us is None else f", server {_number(used.server_us)}"
    return f"clients {_number(used.clients_us)}, workers {_number(used.workers_us)}{server} us"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
