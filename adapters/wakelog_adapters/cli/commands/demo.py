"""The demonstration: demo."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wakelog_adapters.cli import options
from wakelog_adapters.cli.app import command, print_document

__all__ = ["demo"]


@command
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder with its store and logs, and print it.")
    ] = False,
    json: options.Json = False,
) -> None:
    """See it work: a real alarm, a killed worker, virtual time."""
    from wakelog_adapters.cli.demo import story
    from wakelog_adapters.cli.render.parts import console

    summary = story.run(console(sys.stderr if json else sys.stdout), keep=keep)
    if json:
        print_document(summary)
