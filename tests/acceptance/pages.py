"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGES", "ROOT", "Block", "blocks", "pairs", "prose", "source_of"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page: what stands behind the fence, its text, and its line."""

    info: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["info"].strip(), found["text"], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def pairs(page: Path) -> Iterator[tuple[Block, Block | None]]:
    """Each block to run, with the block that shows its output, where one follows."""
    found = blocks(page)
    for block, after in zip_longest(found, found[1:]):
        if block.info == "python run":
            yield block, after if after and after.info == "text output" else None


def source_of(page: Path) -> str:
    """All that is to be run of a page, as one module."""
    return "\n".join(block.text for block, _ in pairs(page))
