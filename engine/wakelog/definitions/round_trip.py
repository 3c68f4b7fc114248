"""Round trips: whether a value that was read back from JSON is the same as the one written.

`==` is not sufficient: a `StrEnum` equals a text, `True` equals 1, a named tuple equals a plain
one. Nor is it necessary: NaN does not equal itself, and some classes do not define it.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from pydantic_core import to_json

__all__ = [
    "RoundTrip", "decides_class", "differs_at", "each_of", "equal", "nodes", "unwritable_at",
]  # fmt: skip

ATOMS = frozenset({str, int, float, bool, type(None)})
ROWS = (list, tuple)
MAX_DEPTH = 20
"""How deep a value is searched for the part that has no JSON."""


class RoundTrip:
    """Compares two values part by part, if `==` alone cannot decide."""

    def __init__(self, declared: frozenset[type]) -> None:
        """`declared`: the classes that the type names."""
        self._declared = declared
        self.is_opaque = False
        """Some part has no `==`: only the JSON texts can be compared."""
        self._path: deque[str] = deque()
        self.classes: tuple[type, type] | None = None
        """Those of the first part that differs; None if it is the whole."""

    @property
    def loc(self) -> str:
        """Where the first part that differs is, as in `items.0.price`; empty if it is the whole."""
        return ".".join(self._path)

    def same(self, a: Any, b: Any) -> bool:
        """Whether `a` and `b` are equal and of the same class, in each part. A part of `a` may be
        of a subclass that adds no field, unless the type names that class itself; a list and a
        tuple count as the same, since JSON has only one of them."""
        if type(a) in ATOMS and type(a) is type(b) and a == b:
            return True
        if type(a) in ROWS and type(b) in ROWS:
            return len(a) == len(b) and self._alike(_numbered(a), b)
        fields = None if _is(b, dict) else _fields_of(b)
        if type(a) is not type(b) and not self._adds_no_field(a, b, fields):
            return False
        if fields is not None:
            parts = ((f, getattr(a, f, None)) for f in fields)
            alike = self._alike(parts, (getattr(b, f, None) for f in fields))
            return alike and self.same(_extra(a), _extra(b))
        if _is(a, dict):
            keys = len(a) == len(b) and self._alike(((key, key) for key in a), b.keys())
            return keys and self._alike(a.items(), b.values())
        if _is(a, list, tuple, deque):
            return len(a) == len(b) and self._alike(_numbered(a), b)
        if _is(a, set, frozenset):
            in_b = {each: each for each in b}
            return a == b and all(self.same(each, in_b[each]) for each in a)
        return self._same_atom(a, b)

    def _alike(self, parts: Iterable[tuple[Any, Any]], others: Iterable[Any]) -> bool:
        """Whether each part, under its name, is the same as the other one."""
        for (name, a), b in zip(parts, others, strict=True):
            if not self.same(a, b):
                self.classes = self.classes or (type(a), type(b))
                self._path.appendleft(str(name))
                return False
        return True

    def _adds_no_field(self, a: Any, b: Any, fields: list[str] | None) -> bool:
        """Whether `a` is a subclass of `b`'s class that adds no fields."""
        named = type(a) in self._declared or fields is None
        return not named and isinstance(a, type(b)) and _fields_of(a) == fields

    def _same_atom(self, a: Any, b: Any) -> bool:
        same = equal(a, b)
        if same or isinstance(a, float | Decimal):
            return same is True or bool(a != a and b != b)  # NaN
        if isinstance(a, datetime):  # in a repeated hour `==` is False across time zones
            aware = a.tzinfo is not None and b.tzinfo is not None
            return aware and a.timestamp() == b.timestamp()
        self.is_opaque = self.is_opaque or same is None
        return same is None


def differs_at(a: Any, b: Any) -> str:
    """Where two values of JSON data differ first, as `RoundTrip.loc` says it."""
    comparison = RoundTrip(frozenset())
    comparison.same(a, b)
    return comparison.loc


def unwritable_at(value: Any, depth: int = MAX_DEPTH) -> str:
    """Where the part of a value is that has no JSON, as `RoundTrip.loc` says it; empty if each part
    that can be looked at has one."""
    for name, part in _parts_of(value) if depth else ():
        try:
            to_json(part)
        except Exception:  # of the user's own serializers too
            return f"{name}.{unwritable_at(part, depth - 1)}".rstrip(".")
    return ""


def _parts_of(value: Any) -> list[tuple[Any, Any]]:
    if _is(value, dict):
        return list(value.items())
    if _is(value, *ROWS):
        return list(_numbered(value))
    fields = [(field, getattr(value, field, None)) for field in _fields_of(value) or ()]
    return [*fields, *(_extra(value) or {}).items()]


def _numbered(values: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    return enumerate(values)


def _is(value: Any, *classes: type) -> bool:
    return isinstance(value, classes)


def equal(a: Any, b: Any) -> bool | None:
    """Whether `a == b`; None if their class does not define it."""
    try:
        if a == b:
            return True
    except Exception:  # for example an array's, which compares element by element
        return None
    own: object = type(a).__eq__
    return None if own is object.__eq__ else False


def _fields_of(value: Any) -> list[str] | None:
    """The names of the fields that are serialized, of a model or a dataclass."""
    fields: dict[str, Any] | None = getattr(value, "__pydantic_fields__", None)
    if fields is not None:
        return [
            name
            for name, field in fields.items()
            if not field.exclude and getattr(field, "exclude_if", None) is None
        ]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.compare]
    return None


def _extra(value: Any) -> dict[str, Any] | None:
    return getattr(value, "__pydantic_extra__", None)


_DECIDED = frozenset(
    (
        *("none", "bool", "int", "float", "decimal", "str", "bytes", "literal", "enum", "uuid"),
        *("date", "time", "datetime", "timedelta", "url", "multi-host-url"),
        *("nullable", "default", "definitions", "definition-ref"),
        *("model-field", "dataclass-args", "dataclass-field", "typed-dict-field"),
    )
)
"""The types of pydantic core schema whose values, or the parts of them, are of one class."""
_APART = ("model", "dataclass", "none")
"""The types whose values never equal a value of another class."""


def decides_class(node: dict[str, Any]) -> bool:
    """Whether equal values of this part of a core schema are of the same class."""
    kind = node.get("type")
    match kind:
        case "list" | "set" | "frozenset" | "tuple":
            return "items_schema" in node
        case "dict":
            return "keys_schema" in node and "values_schema" in node
        case "model" | "model-fields" | "typed-dict" | "dataclass":
            config: dict[str, Any] = node.get("config") or {}
            extra: object = node.get("extra_behavior") or config.get("extra_fields_behavior")
            return extra != "allow"
        case "union" | "tagged-union":
            choices = each_of(node["choices"])
            return all(_is(each, dict) and each["type"] in _APART for each in choices)
        case _:  # a node without a type is no schema, for example a configuration
            return not isinstance(kind, str) or kind in _DECIDED


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Each part of a pydantic core schema that may describe a value."""
    if isinstance(schema, dict):
        node = cast("dict[str, Any]", schema)
        yield node
        for key, part in node.items():
            if key in ("fields", "choices"):
                yield from nodes(each_of(part))
            elif key not in ("metadata", "default", "computed_fields"):
                yield from nodes(part)
    elif isinstance(schema, list | tuple):
        for part in cast("list[Any]", schema):
            yield from nodes(part)


def each_of(parts: Any) -> list[Any]:
    """The parts, also if they are stored under the user's names."""
    return list(parts.values() if _is(parts, dict) else parts)
