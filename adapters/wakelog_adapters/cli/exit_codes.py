"""Errors on the command line: a line or two on stderr, and an exit code for each sort of error.

The codes are public: `wakelog --help` lists them, and scripts rely on them.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import typer

__all__ = [
    "DONE",
    "EXIT_CODES",
    "INTERRUPTED",
    "JOB_FAILED",
    "REFUSED",
    "STORE_UNAVAILABLE",
    "UNWRITTEN",
    "USAGE",
    "UsageError",
    "complain",
    "exit_unless",
    "printable",
    "reporting",
]

DONE = 0
REFUSED = 1
USAGE = 2
STORE_UNAVAILABLE = 3
JOB_FAILED = 4
UNWRITTEN = 5
INTERRUPTED = 130

EXIT_CODES = {
    DONE: "done",
    REFUSED: "the request was refused or failed, or the question was answered with no",
    USAGE: "the command line is wrong: option, module, a job's name or type, id, URL, JSON",
    STORE_UNAVAILABLE: "the store cannot be reached or used",
    JOB_FAILED: "a handler of the job failed, or the run that was triggered did",
    UNWRITTEN: "it was done, but stdout is closed or full, or its reader has gone",
    INTERRUPTED: "interrupted",
}


class UsageError(Exception):
    """The command line is wrong. The message says what to write instead."""


@contextmanager
def reporting() -> Generator[None]:
    """Turn the errors that are meant for the user into a message and an exit code.

    Anything else is a bug in wakelog, or in a job's module, and keeps its traceback.
    """
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):  # Abort: Ctrl-C at a question
        complain(["interrupted"])
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        complain(_lines(error))
        raise typer.Exit(code) from None


def exit_unless(is_done: bool, code: int = REFUSED) -> None:
    """End the command with `code` if what it was for was not done."""
    if not is_done:
        raise typer.Exit(code)


def complain(lines: Sequence[str]) -> None:
    """Print an error on stderr: the first line says what is wrong, the others give details."""
    first, *others = lines
    print(f"Error: {printable(first)}", *map(printable, others), sep="\n  ", file=sys.stderr)


def printable(text: str) -> str:
    """`text` with its control characters escaped: a terminal would act on them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _code(error: Exception) -> int | None:
    if isinstance(error, UsageError):
        return USAGE
    from wakelog import errors

    match error:
        case errors.UnknownJobError() | errors.UnknownJobTypeError() | errors.InvalidIdError():
            return USAGE
        case errors.UnknownActionError():
            return USAGE
        case errors.StoreUnavailableError():
            return USAGE if error.reason == "unknown_scheme" else STORE_UNAVAILABLE
        case errors.JobError():
            return JOB_FAILED
        case errors.WakelogError():
            return REFUSED
        case _:
            return None


def _lines(error: Exception) -> list[str]:
    from wakelog.errors import ValidationError

    if isinstance(error, ValidationError) and len(error.issues) > 1:
        issues = [f"{i['loc']}: {i['msg']}" if i["loc"] else i["msg"] for i in error.issues]
        return [f"{error.what} is not valid:", *issues]
    return [str(error)]
