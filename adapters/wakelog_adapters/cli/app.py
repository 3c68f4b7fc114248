"""The frame of `wakelog`: the app that the commands join, and how an answer is printed."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Generator
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from wakelog_adapters.cli.exit_codes import EXIT_CODES, reporting

__all__ = ["app", "print_document", "prints_on_stderr", "tell"]

R = TypeVar("R")


class Commands(TyperGroup):
    """A group whose commands answer wakelog's errors with a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        with reporting(), _hint_at_dashes():
            return super().invoke(ctx)


@contextlib.contextmanager
def _hint_at_dashes() -> Generator[None]:
    """An id or a number such as -5 is taken for an option: say how to write it."""
    try:
        yield
    except Exception as error:
        option = getattr(error, "option_name", None)
        if isinstance(option, str) and re.match(r"-+\d", option):
            hint = "words that begin with - stand behind --, as in: wakelog add -- edits -5 -1"
            vars(error)["message"] = f"No such option: {option}; {hint}"
        raise


EPILOG = "\n\n".join(
    [
        "\b\nExit codes:\n"
        + "\n".join(f"  {code:>3}  {what}" for code, what in EXIT_CODES.items()),
        "\b\nEnvironment:\n"
        "  WAKELOG_URL   the store, where --url is not given\n"
        "  WAKELOG_JOBS  the jobs, where --jobs or MODULE:NAME is not given",
        "Answers go to stdout, messages and logs to stderr, times are in UTC.",
    ]
)

app = typer.Typer(
    cls=Commands,
    help="Durable jobs whose every move is in the log.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"wakelog {version('wakelog')}")
        raise typer.Exit


@app.callback()
def _wakelog(  # pyright: ignore[reportUnusedFunction]
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Durable jobs whose every move is in the log."""
    # It names each try to connect and says nothing of why; the store says it once.
    logging.getLogger("stamina").setLevel(logging.ERROR)


def tell(ask: Callable[[], R], show: Callable[[R], Any], json: bool) -> R:
    """Ask, then print the answer on stdout, where nothing else may be."""
    with prints_on_stderr():
        answer = ask()
    if json:
        print_document(answer)
    else:
        from wakelog_adapters.cli.render.inspect import console

        console(sys.stdout).print(show(answer))
    return answer


def print_document(answer: Any) -> None:
    """Print `answer` as one JSON document, on one line where no person reads it."""
    from wakelog_adapters.cli.json_output import document

    print(document(answer, indent=2 if sys.stdout.isatty() else None), flush=True)


def prints_on_stderr() -> contextlib.redirect_stdout[Any]:
    """While the jobs' own code runs: what it prints is no part of the answer."""
    return contextlib.redirect_stdout(sys.stderr)
