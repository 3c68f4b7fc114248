"""The command line: `wakelog`. What it imports is little until a command needs more."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its code (see `wakelog --help`)."""
    from wakelog_adapters.cli.commands import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow terminal encoding must not stop us
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="wakelog")
