"""The app that the commands register with, and how a command prints its result."""

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
from wakelog_adapters.cli.signatures import flattened

__all__ = [
    "app", "command", "group", "print_document", "print_result", "stdout_to_stderr", "subcommand",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., None])
R = TypeVar("R")


class Commands(TyperGroup):
    """A group whose commands turn wakelog's errors into a message and an exit code."""

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
            hint = "write words that begin with - after --, as in: wakelog add -- edits -5 -1"
            vars(error)["message"] = f"No such option: {option}; {hint}"
        raise


EPILOG = "\n\n".join(
    [
        "\b\nExit codes:\n"
        + "\n".join(f"  {code:>3}  {what}" for code, what in EXIT_CODES.items()),
        "\b\nEnvironment:\n"
        "  WAKELOG_URL   the store, if --url is not given\n"
        "  WAKELOG_JOBS  the jobs, if --jobs or MODULE:NAME is not given",
        "Results go to stdout, messages and logs to stderr, times are in UTC.",
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


def command(function: F) -> F:
    """Register a command; a parameter that is a dataclass stands for the options in its fields."""
    app.command()(flattened(function))
    return function


def group(name: str, about: str) -> typer.Typer:
    """Register a group of commands."""
    commands = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(commands, name=name)
    return commands


def subcommand(commands: typer.Typer, name: str | None = None) -> Callable[[F], F]:
    """Register a command of a group, as `command` does; by default under the function's name."""

    def register(function: F) -> F:
        commands.command(name)(flattened(function))
        return function

    return register


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
    # stamina logs each attempt to connect without the cause; the store logs the cause once.
    logging.getLogger("stamina").setLevel(logging.ERROR)


def print_result(call: Callable[[], R], render: Callable[[R], Any], json: bool) -> R:
    """Make the call and print its result on stdout, where nothing else is printed."""
    with stdout_to_stderr():
        result = call()
    if json:
        print_document(result)
    else:
        from wakelog_adapters.cli.render.parts import console

        console(sys.stdout).print(render(result))
    return result


def print_document(result: Any) -> None:
    """Print `result` as one JSON document: indented on a terminal, else on one line."""
    from wakelog_adapters.cli.render.json_output import document

    print(document(result, indent=2 if sys.stdout.isatty() else None), flush=True)


def stdout_to_stderr() -> contextlib.redirect_stdout[Any]:
    """For as long as code of the jobs may run: what it prints is not part of the result."""
    return contextlib.redirect_stdout(sys.stderr)
