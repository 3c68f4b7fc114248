"""The command line: `wakelog`. Heavy modules are imported by the commands that need them.

A command takes two files of the same name: `commands/` has what is typed, `render/` what people
see. For programs (`--json`) the same result is printed by `render.json_output`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> None:
    """Run the command of these words, or of `sys.argv`, and exit with its code (see `wakelog
    --help`)."""
    try:
        from wakelog_adapters.cli.streams import standard_streams

        with standard_streams():
            from wakelog_adapters.cli.commands import app

            app(words, prog_name="wakelog")
    except KeyboardInterrupt:  # modules are still being imported
        from wakelog_adapters.cli.exit_codes import INTERRUPTED, complain

        complain(["interrupted"])
        sys.exit(INTERRUPTED)
