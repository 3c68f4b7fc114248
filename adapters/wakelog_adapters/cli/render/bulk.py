"""Results of changing many instances, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import count_of, sentence, why_not

if TYPE_CHECKING:
    from wakelog.client.bulk import BulkResult

__all__ = ["result"]

MAX_SHOWN = 20
"""Instances that are named; the JSON document names more."""

_DONE = {
    "pause": "paused",
    "resume": "resumed",
    "retry": "to be tried again",
    "clear": "cleared",
    "requeue": "with dead letters to be handled again",
    "discard": "with dead letters dropped for good",
}


def result(result: BulkResult) -> RenderableType:
    """How many matched, how many were changed, and which were not."""
    matching = f"{count_of(result.matched, 'instance')} match{'' if result.matched != 1 else 'es'}"
    if result.dry_run:
        shown = [Text(f"  {printable(id)}") for id in result.instance_ids[:MAX_SHOWN]]
        return Group(Text(matching), *shown, *_more(result.matched))
    lines = [Text(f"{matching}, {result.done} {_DONE[result.action]}")]
    for each in result.not_done[:MAX_SHOWN]:
        lines.append(sentence(f"  {each.instance_id}", f"not changed: {why_not(each.reason)}"))
    return Group(*lines, *_more(result.matched - result.done))


def _more(number: int) -> list[Text]:
    return [Text(f"  and {number - MAX_SHOWN} more", "dim")] if number > MAX_SHOWN else []
