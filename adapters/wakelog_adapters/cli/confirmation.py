"""Questions before something is done that cannot be undone. Asked on stderr.

The two functions differ only if stdin is not a terminal, so that there is nobody to answer.
"""

from __future__ import annotations

import sys

import typer

from wakelog_adapters.cli.app import stdout_to_stderr
from wakelog_adapters.cli.exit_codes import UsageError, complain, exit_unless

__all__ = ["ask_or_proceed", "ask_or_refuse"]


def ask_or_proceed(question: str, *, yes: bool) -> None:
    """For one instance: without a terminal proceed, since the user has named the instance.

    After a "no" the command ends with exit code 1.
    """
    if not yes and sys.stdin.isatty():
        _ask(question)


def ask_or_refuse(question: str, *, yes: bool) -> None:
    """For many instances: without a terminal refuse, since nobody has seen how many there are.

    After a "no" the command ends with exit code 1. Raises `UsageError` without a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} No terminal to ask on: give --yes, or --dry-run to look")
    _ask(question)


def _ask(question: str) -> None:
    with stdout_to_stderr():
        is_confirmed = typer.confirm(question)
    if not is_confirmed:
        complain(["nothing was done"])
    exit_unless(is_confirmed)
