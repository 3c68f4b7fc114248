"""What an examination finds, and what the words in it mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wakelog_adapters.sql.migrations import SchemaVersion

__all__ = ["Finding", "Level", "length", "of_schema", "ok", "problem", "warning"]

Level = Literal["ok", "warning", "problem"]
"""Well; worth knowing; and something is lost, stands still or will, unless somebody acts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What was looked at, in a word: always the same one for programs."""
    level: Level
    text: str
    """What was found, as one sentence."""
    advice: str | None = None
    """What to do about it, where there is something."""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", text)


def warning(check: str, text: str, advice: str) -> Finding:
    """Worth knowing."""
    return Finding(check, "warning", text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """Somebody must act."""
    return Finding(check, "problem", text, advice)


def of_schema(stands: SchemaVersion) -> Finding:
    """What a schema's standing means."""
    if stands.is_too_new:
        text = f"stands at migration {stands.number}, this wakelog knows {stands.newest}"
        return problem("schema", text, "upgrade this wakelog: it cannot open the store")
    if stands.missing:
        lacks = f"lacks {', '.join(map(str, stands.missing))}"
        advice = "run wakelog migrate (opening the store does it too, unless with migrate=off)"
        return problem("schema", f"the schema {lacks}", advice)
    if stands.number > stands.newest:
        text = f"stands at migration {stands.number}, newer than this wakelog, which may work on it"
        return warning("schema", text, "go on with the deploy: upgrade this wakelog")
    return ok("schema", f"up to date, at migration {stands.number}")


def length(us: int) -> str:
    """A length of time in words, as exactly as is of use."""
    seconds = us / 1_000_000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
