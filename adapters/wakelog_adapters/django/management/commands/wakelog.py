"""`python manage.py wakelog …`: the command line of wakelog, with Django set up."""

# pyright: basic
# Django ships no types.

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from wakelog_adapters.cli import main
from wakelog_adapters.cli.environment import load_jobs
from wakelog_adapters.django.connections import closing_connections

__all__ = ["Command"]


class Command(BaseCommand):
    """Its words are those of `wakelog`; the store and the jobs come from Django's settings, unless
    the environment or an option names others."""

    help = "The command line of wakelog: `manage.py wakelog --help`"

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it and exit with its code. Raises `SystemExit`."""
        for name in ("WAKELOG_URL", "WAKELOG_JOBS"):
            value = getattr(settings, name, None)
            if value and not os.environ.get(name):
                os.environ[name] = str(value)
        jobs = os.environ.get("WAKELOG_JOBS")
        if jobs:
            closing_connections(load_jobs(jobs))
        main(argv[2:])

    def handle(self, *arguments: str, **options: Any) -> None:
        """As `call_command("wakelog", "status", "task:order:o-1")`."""
        self.run_from_argv(["manage.py", "wakelog", *arguments])
