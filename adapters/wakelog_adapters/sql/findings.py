"""What a health check finds, and the wording that all checks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wakelog_adapters.sql.migrations import SchemaVersion

__all__ = ["Finding", "Level", "counted", "duration", "ok", "problem", "schema_finding", "warning"]

Level = Literal["ok", "warning", "problem"]
"""As it should be; worth knowing; loses data or keeps work waiting, now or soon, until fixed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """The name of the check, one word: programs can rely on it."""
    level: Level
    text: str
    """The result, as one sentence."""
    advice: str | None = None
    """What to do about it; None if the level is ok."""


def ok(check: str, text: str) -> Finding:
    """As it should be."""
    return Finding(check, "ok", text)


def warning(check: str, text: str, advice: str) -> Finding:
    """Worth knowing."""
    return Finding(check, "warning", text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """To be fixed."""
    return Finding(check, "problem", text, advice)


def schema_finding(version: SchemaVersion) -> Finding:
    """What the version of a schema means."""
    if version.is_too_new:
        text = f"at migration {version.number}; this wakelog knows {version.newest}"
        return problem("schema", text, "upgrade this wakelog: it cannot open the store")
    if version.changed:
        text = (
            f"made by another build of wakelog: its {', '.join(map(str, version.changed))} differs"
        )
        return problem("schema", text, "begin with a new file or schema, or use that build")
    if version.missing:
        text = f"the schema lacks {', '.join(map(str, version.missing))}"
        advice = "run wakelog migrate (opening the store does it too, unless its URL has"
        return problem("schema", text, f"{advice} migrate=off)")
    if version.number > version.newest:
        text = f"at migration {version.number}, newer than this wakelog, which can work on it"
        return warning("schema", text, "finish the deploy: upgrade this wakelog")
    return ok("schema", f"up to date, at migration {version.number}")


def counted(number: int, one: str) -> str:
    """A number of things: `1 instance`, `2 instances`."""
    return f"{number} {one if number == 1 else one + 's'}"


def duration(us: int) -> str:
    """A duration for people, rounded to one unit."""
    seconds = us / 1_000_000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
