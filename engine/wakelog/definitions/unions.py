"""Unions whose members cannot be told apart by their JSON, so that one would be read as another."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, cast

import pydantic
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError, SchemaSerializer, SchemaValidator

from wakelog.definitions.round_trip import RoundTrip, each_of, nodes

__all__ = ["alike", "never_read_back"]

Schema = dict[str, Any]
"""A part of a pydantic core schema."""


def _known(schema: Any) -> dict[str, Schema]:
    """The parts that others refer to, by their names."""
    return {part["ref"]: part for part in nodes(schema) if isinstance(part.get("ref"), str)}


def _members(union: Schema, known: dict[str, Schema]) -> Iterator[Schema]:
    for each in union["choices"]:
        choice = cast("Schema", each[0] if isinstance(each, tuple) else each)
        yield known.get(choice.get("schema_ref", ""), choice)


# -- classes ---------------------------------------------------------------------------------------


def alike(schema: Any) -> Iterator[tuple[type, type]]:
    """Classes in one union of a pydantic core schema whose values have the same JSON, so that those
    of the second would be read back as the first."""
    known = _known(schema)
    for union in nodes(schema):
        if union.get("type") == "union":
            told: list[tuple[type, Any]] = [
                (each["cls"], _form(each))
                for each in _members(union, known)
                if each["type"] in _CLASSES
            ]
            for (one, form), (other, same) in itertools.combinations(told, 2):
                if one is not other and form is not None and form == same:
                    yield one, other


_CLASSES = ("model", "dataclass")


def _form(choice: Schema) -> dict[str, Any] | None:
    """The JSON that values of a class may have; None if a validator of its own may narrow it."""
    if any(str(node.get("type")).startswith("function-") for node in nodes(choice)):
        return None
    try:
        form = TypeAdapter[Any](choice["cls"]).json_schema()
    except PydanticUserError:
        return None
    return {key: part for key, part in form.items() if key not in ("title", "description")}


# -- other members ---------------------------------------------------------------------------------

_SCALARS = (
    *(None, False, True, 0, 1, -7, 123, 2.5, 12345678901234567890, 1e300),
    *("", "a", "/a/b", "a@example.org", "http://example.org/", "ftp://example.org/a", "x:///a"),
    *("10.0.0.1", "::1", "10.0.0.0/8", "fe80::/10", "1.5", "-7", "12345678901234567890", "1/3"),
    *("1e300", "1j", "0001-01-01", "2026-01-31", "2026-01-31T09:00:00", "2026-01-31T09:00:00.5Z"),
    *("09:00:00", "09:00:00.5Z", "PT5S", "-P1DT2H", "00000000-0000-0000-0000-000000000000"),
    *("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "{}", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
)
_EXAMPLES = [
    json.dumps(example) for each in _SCALARS for example in (each, [each], [each] * 2, {"a": each})
]
"""JSON that values of members are read from, to see what becomes of them in the union. There are
several for each type: one that another member does not take is sufficient."""
_PLAIN = frozenset(
    (
        *("none", "bool", "int", "float", "decimal", "complex", "str", "bytes", "literal"),
        *("uuid", "date", "time", "datetime", "timedelta", "url", "multi-host-url", "nullable"),
        *("list", "set", "frozenset", "tuple", "dict", "union", "lax-or-strict", "json-or-python"),
        *("is-instance", "chain", "fraction", "to-string", "format", "no-info", "with-info"),
    )
)
"""The types of pydantic core schema that are looked at, and of its functions and serializers."""
_NO_MISSING: Any = vars(Enum)["_missing_"].__func__
"""What an enum has that does not read values of its own."""


def never_read_back(schema: Any) -> Iterator[tuple[str, str]]:
    """Members of one union of a pydantic core schema, such as `UUID` and `str`, of which no value
    of the first would be read back from its JSON, but one of the second.

    No function of the user's is called. What is below one is left out: that may tell them apart.
    """
    known = _known(schema)
    for union, config in _unions(schema, {}):
        plain = [each for each in _members(union, known) if all(map(_is_plain, nodes(each)))]
        reduced: Any = {**union, "choices": plain}
        try:
            whole = SchemaValidator(reduced, config), SchemaSerializer(reduced, config)
            for choice in plain:
                if (met := _met(choice, config, *whole)) is not None:
                    yield met
        except SchemaError:  # a part of it is defined elsewhere
            continue


def _unions(schema: Any, config: Any) -> Iterator[tuple[Schema, Any]]:
    """Each union, and the configuration of the class that it is in."""
    if isinstance(schema, list | tuple):
        for part in cast("list[Any]", schema):
            yield from _unions(part, config)
    if not isinstance(schema, dict):
        return
    node = cast("Schema", schema)
    if "serialization" in node or str(node.get("type")).startswith("function-"):
        return
    config = node.get("config", config)
    if node.get("type") == "union":
        yield node, config
    for key, part in node.items():
        if key not in ("metadata", "default", "config"):
            yield from _unions(each_of(part) if key in ("fields", "choices") else part, config)


def _is_plain(node: Schema) -> bool:
    """Whether what a part of a core schema does is known: it calls nothing of the user's."""
    kind = node.get("type")
    if kind == "enum":
        return node["cls"]._missing_.__func__ is _NO_MISSING
    if not str(kind).startswith("function-"):
        return not isinstance(kind, str) or kind in _PLAIN
    called: Any = node["function"]
    if isinstance(called, dict):
        called = cast("Schema", called)["function"]
    return str(getattr(called, "__module__", "")).startswith(("pydantic", "ipaddress"))


def _met(
    choice: Schema, config: Any, validator: SchemaValidator, serializer: SchemaSerializer
) -> tuple[str, str] | None:
    """The names of a member and of the one as which its values are read back; None if one of them
    is read back as what it was, or if none is known."""
    found: tuple[str, str] | None = None
    for value in _values(choice, config):
        try:
            valid = validator.validate_python(value)
            again = validator.validate_json(
                serializer.to_json(valid, by_alias=False, round_trip=True, warnings=False)
            )
        except (ValueError, TypeError):  # it has no JSON
            continue
        if type(valid) is not type(value):
            continue  # it is taken for another member before it is written
        if RoundTrip(frozenset([_class_of(value)])).same(valid, again):
            return None
        found = found or (_name_of(valid), _name_of(again))
    return found


def _values(choice: Schema, config: Any) -> Iterator[Any]:
    """Some values of a member; all of an enum and of a literal."""
    if choice["type"] in ("enum", "literal"):
        yield from choice["members" if choice["type"] == "enum" else "expected"]
        return
    validator = SchemaValidator(cast("Any", choice), config)
    for example in _EXAMPLES:
        try:
            yield validator.validate_json(example)
        except pydantic.ValidationError:
            continue


def _class_of(value: object) -> type:
    return type(value)


def _name_of(value: Any) -> str:
    """As in `list[UUID]`."""
    class_ = _class_of(value)
    parts: list[Any] = []
    if class_ is dict:
        parts = [*next(iter(value.items()), ())]
    elif class_ in (list, tuple, set, frozenset):
        parts = [*value][:1]
    name = class_.__qualname__
    return f"{name}[{', '.join(map(_name_of, parts))}]" if parts else name
