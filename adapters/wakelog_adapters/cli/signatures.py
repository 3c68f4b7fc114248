"""Groups of options: a command takes a frozen dataclass, typer sees its fields as parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

__all__ = ["flattened"]


def flattened(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with each parameter that is a dataclass replaced by the fields of that class.

    typer reads the options of a command from its signature. Here all are keyword-only, so they
    may come in any order. Raises `ValueError` if two of them have the same name.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        if isinstance(hints[name], type) and dataclasses.is_dataclass(hints[name]):
            groups[name] = hints[name]
            parameters += _parameters(hints[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    def command(**values: Any) -> None:
        for name, group in groups.items():
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            values[name] = group(**fields)
        function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    vars(command)["__signature__"] = Signature(parameters)
    return command


def _parameters(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)
        for name, parameter in signature(group).parameters.items()
    ]
