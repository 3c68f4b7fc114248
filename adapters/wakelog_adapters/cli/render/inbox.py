"""The inbox, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import sentence, table, time_of

if TYPE_CHECKING:
    from wakelog_adapters.cli.reports import InboxActReport, InboxReport

__all__ = ["acted", "rows"]


def rows(report: InboxReport) -> RenderableType:
    """What is in the inbox."""
    if not report.rows:
        return Text("the inbox is empty", "dim")
    listing = table()
    for heading in ("number", "sent", "for", "is", "why"):
        listing.add_column(heading)
    for row in report.rows:
        listing.add_row(
            str(row.number),
            time_of(row.sent_at),
            printable(row.target),
            row.status,
            printable(row.error or ""),
        )
    return listing


def acted(result: InboxActReport) -> RenderableType:
    """What was done with a row."""
    if not result.done:
        return sentence(f"row {result.number}", "is not in the inbox")
    text = "is tried again" if result.action == "retry" else "dropped"
    return sentence(f"row {result.number}", text)
