"""`python -m wakelog`: the command line. It is an adapter, and found through its entry point."""

from __future__ import annotations

from importlib.metadata import entry_points

if __name__ == "__main__":
    [command] = entry_points(group="console_scripts", name="wakelog")
    command.load()()
