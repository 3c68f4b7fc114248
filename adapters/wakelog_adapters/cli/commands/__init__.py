"""What is typed: one module for each type of job, and one for each subject of all jobs.

A command parses its words, makes one call, and prints the result. It imports `wakelog` and what
else takes time when it runs, so that `wakelog --help` needs none of it.
"""

from __future__ import annotations

import importlib

from wakelog_adapters.cli.app import app

__all__ = ["app"]

MODULES = (
    *("demo", "worker"),
    *("task", "debounce", "continuous", "worker_pool", "pool_acts"),
    *("lifecycle", "dead_letters", "pause", "inbox", "inspect", "store"),
)
"""In this order `wakelog --help` lists the commands: each module registers its own."""

for _name in MODULES:
    importlib.import_module(f"{__name__}.{_name}")
