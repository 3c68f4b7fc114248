"""Answers about a store's health, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable

if TYPE_CHECKING:
    from wakelog_adapters.cli.caring import HealthReport, SchemaReport, ScriptReport
    from wakelog_adapters.sql.findings import Level

__all__ = ["examined", "schema", "script"]

_STYLES = {"ok": "green", "warning": "bold yellow", "problem": "bold red"}


def schema(stands: SchemaReport) -> RenderableType:
    """How a schema stands, and what was done."""
    if stands.applied:
        said = f"applied {', '.join(stands.applied)}"
    elif stands.missing:
        said = f"lacks {', '.join(stands.missing)}: run wakelog migrate"
    elif stands.migration > stands.known:
        said = f"at migration {stands.migration}, newer than this wakelog, which can work on it"
    else:
        said = f"up to date, at migration {stands.migration}"
    return Text(printable(stands.store), "bold").append(f"  {printable(said)}", "not bold")


def script(printed: ScriptReport) -> RenderableType:
    """The SQL as it is."""
    return Text(printed.sql.rstrip(), no_wrap=True, overflow="ignore")


def examined(found: HealthReport) -> RenderableType:
    """One line for each finding, under it what to do, and a last line that says all."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found.findings:
        text = Text(printable(finding.text))
        if finding.advice:
            text.append(f"\n-> {printable(finding.advice)}", "italic")
        table.add_row(Text(finding.level, _STYLES[finding.level]), finding.check, text)
    levels = [finding.level for finding in found.findings]
    end = ", ".join(_count(levels.count(level), level) for level in ("problem", "warning"))
    title = Text(printable(found.store), "bold")
    return Group(title, table, Text(end, "green" if found.healthy else "bold red"))


def _count(number: int, one: Level) -> str:
    return f"{number or 'no'} {one if number == 1 else one + 's'}"
