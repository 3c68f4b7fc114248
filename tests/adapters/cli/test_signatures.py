"""A command takes a group of options as one value, typer sees each of them as a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from wakelog_adapters.cli.signatures import flattened

Depth = Annotated[int, typer.Option("--depth", help="How deep.")]


@dataclass(frozen=True, kw_only=True)
class Place:
    where: Annotated[str, typer.Argument(metavar="WHERE")]
    depth: Depth = 1


@dataclass(frozen=True, kw_only=True)
class FarPlace(Place):
    far: Annotated[bool, typer.Option("--far")] = False


def dig(*, place: FarPlace, deep: bool = False) -> None:
    """Dig a hole."""
    print(place, deep)


def call(*words: str) -> str:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(flattened(dig))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_fields_are_parameters_and_the_command_gets_the_group() -> None:
    said = call("here", "--depth", "3", "--far", "--deep")
    assert said == "FarPlace(where='here', depth=3, far=True) True\n"


def test_the_defaults_are_those_of_the_fields() -> None:
    assert call("here") == "FarPlace(where='here', depth=1, far=False) False\n"


def test_the_help_is_that_of_the_command_and_of_the_fields() -> None:
    said = call("--help")
    assert "Dig a hole." in said
    assert said.index("--depth") < said.index("--far") < said.index("--deep")
    assert "How deep." in said


def test_two_options_of_one_name_are_refused() -> None:
    def twice(*, place: Place, depth: Depth = 2) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'depth'"):
        flattened(twice)
