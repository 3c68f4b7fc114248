"""Results about a store itself, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from wakelog_adapters.cli.exit_codes import printable
from wakelog_adapters.cli.render.parts import sentence, table

if TYPE_CHECKING:
    from wakelog_adapters.cli.reports import HealthReport, SchemaReport, ScriptReport
    from wakelog_adapters.sql.findings import Level

__all__ = ["health", "schema", "script"]

_STYLES = {"ok": "green", "warning": "bold yellow", "problem": "bold red"}


def schema(report: SchemaReport) -> RenderableType:
    """The version of a schema, and what was applied."""
    if report.applied:
        text = f"applied {', '.join(report.applied)}"
    elif report.missing:
        text = f"lacks {', '.join(report.missing)}: run wakelog migrate"
    elif report.migration > report.known:
        text = f"at migration {report.migration}, newer than this wakelog, which can work on it"
    else:
        text = f"up to date, at migration {report.migration}"
    return sentence(report.store, text)


def script(report: ScriptReport) -> RenderableType:
    """The SQL as it is."""
    return Text(report.sql.rstrip(), no_wrap=True, overflow="ignore")


def health(report: HealthReport) -> RenderableType:
    """A line for each finding, under it what to do, and a last line with the totals."""
    rows = table(header=False)
    rows.add_column(no_wrap=True)
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for finding in report.findings:
        text = Text(printable(finding.text))
        if finding.advice:
            text.append(f"\n-> {printable(finding.advice)}", "italic")
        rows.add_row(Text(finding.level, _STYLES[finding.level]), finding.check, text)
    levels = [finding.level for finding in report.findings]
    totals = ", ".join(_count(levels.count(level), level) for level in ("problem", "warning"))
    title = Text(printable(report.store), "bold")
    return Group(title, rows, Text(totals, "green" if report.healthy else "bold red"))


def _count(number: int, one: Level) -> str:
    return f"{number or 'no'} {one if number == 1 else one + 's'}"
