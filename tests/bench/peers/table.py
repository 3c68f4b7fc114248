"""A comparison as a table: each figure with its ratio to that of the first library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

__all__ = ["Column", "as_markdown"]

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Column(Generic[F]):
    """A figure of each round."""

    title: str
    of: Callable[[F], float | None]
    instead: Callable[[F], float | None] = lambda each: None
    """What stands for it, of the first library, where that has no such figure."""
    shorter: bool = False
    """The smaller it is, the better."""


def as_markdown(
    facts: Mapping[str, str], columns: Sequence[Column[F]], rounds: Mapping[str, Sequence[F]]
) -> str:
    """The facts, then a line for each library: medians, and medians of the rounds' own ratios.

    A ratio of more than 1 is in favour of the library that is named first.
    """
    said = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    head = "".join(f" | {column.title} | ratio" for column in columns)
    rule = "|---" + "|---:" * (2 * len(columns)) + "|"
    lines = [f"\n{said}\n", f"| library{head} |", rule]
    first = next(iter(rounds.values()))
    for name, figures in rounds.items():
        cells = [cell for column in columns for cell in _cells(column, figures, first)]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines) + "\n"


def _cells(column: Column[F], figures: Sequence[F], first: Sequence[F]) -> tuple[str, str]:
    """A figure and its ratio."""
    ratios: list[float] = []
    values: list[float] = []
    for theirs, ours in zip(figures, first, strict=True):
        value, own = column.of(theirs), column.of(ours)
        if own is None:
            own = column.instead(ours)
        if value is not None:
            values.append(value)
            if own is not None:
                ratios.append(value / own if column.shorter else own / value)
    if not values:
        return "", ""
    value = median(values)
    said = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return said, f"{median(ratios):.2f}" if ratios else ""
