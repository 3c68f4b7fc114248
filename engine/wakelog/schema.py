"""Schemas: the users' types, checked at the door and kept as JSON that reads back the same."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar, cast

import pydantic
from pydantic import TypeAdapter

from wakelog.errors import Issue, ValidationError

__all__ = ["Schema", "issues_of"]

S = TypeVar("S")


class Schema(Generic[S]):
    """A user's type: checked and dumped at the door, decoded anew for each reader.

    The text names fields as the class does, whatever aliases they have, and leaves out what is
    computed: so that it always reads back.
    """

    def __init__(self, type_: Any, what: str) -> None:
        self.what = what
        try:
            self._adapter: TypeAdapter[S] = TypeAdapter(type_)
        except pydantic.errors.PydanticUserError as error:
            raise self._no_type(error) from error

    def complete(self) -> None:
        """Resolve what the type names; raises `ValidationError` where something is not defined."""
        try:
            self._adapter.rebuild()
            _ = self._adapter.validator.title  # a type that is not complete says so here
        except (pydantic.errors.PydanticUserError, NameError) as error:
            raise self._no_type(error) from error

    def _no_type(self, error: Exception) -> ValidationError:
        issue = Issue(loc="", msg=str(error).split("\n")[0], type="type")
        return ValidationError(f"the type given as {self.what}=", [issue])

    def dump(self, value: object, name: str) -> tuple[str, S]:
        """JSON text of `value`, and what reading it back gives: a copy of its own.

        Raises `ValidationError` with each issue, also where the text would not read back as the
        same value.
        """
        data, valid, again = self._through(value, name)
        if (type(again) is type(valid) and _equal(again, valid)) or self._same(data, valid, again):
            return data.decode(), again
        raise ValidationError(f"{self.what} of {name!r}", [_CHANGED])

    def shown(self, value: object, name: str) -> str:
        """JSON text of a value that is only shown. Raises `ValidationError`."""
        return self._through(value, name)[0].decode()

    def _through(self, value: object, name: str) -> tuple[bytes, S, S]:
        """The text, the value that it was made from, and the one that it makes."""
        try:
            valid = self._adapter.validate_python(value)
            data = self._text(valid)
            return data, valid, self._adapter.validate_json(data, by_name=True)
        except pydantic.ValidationError as error:
            raise ValidationError(f"{self.what} of {name!r}", issues_of(error)) from error
        except (ValueError, TypeError) as error:
            issue = Issue(loc="", msg=str(error), type=type(error).__name__)
            raise ValidationError(f"{self.what} of {name!r}", [issue]) from error

    def _text(self, valid: S) -> bytes:
        return self._adapter.dump_json(valid, by_alias=False, round_trip=True, warnings=False)

    def _same(self, data: bytes, valid: S, again: S) -> bool:
        """Whether what was read back is the same, part by part: the long way."""
        likeness = _Likeness(frozenset(_classes(self._adapter.core_schema)))
        if not likeness.same(valid, again):
            return False
        return not likeness.is_opaque or self._text(again) == data

    def load(self, text: str) -> S:
        """A fresh value of recorded JSON text. Raises pydantic's error: the text was recorded."""
        return self._adapter.validate_json(text, by_name=True)

    def try_load(self, text: str) -> S | Exception:
        """As `load`, but answers the exception."""
        try:
            return self.load(text)
        except pydantic.ValidationError as error:
            return error


_CHANGED = Issue(
    loc="",
    msg="it does not read back as what was given: give each class of a union a literal `kind`, "
    "and keep secrets and infinities out",
    type="round_trip",
)


class _Likeness:
    """Whether two values are the same for whoever reads them, where `==` alone will not do."""

    def __init__(self, declared: frozenset[type]) -> None:
        self._declared = declared
        self.is_opaque = False
        """Something in it has no `==`: only its text can tell."""

    def same(self, a: Any, b: Any) -> bool:
        """`a` may be of a subclass that adds no field, unless the type names that class itself."""
        fields = _fields_of(b)
        if _is_row(a) and _is_row(b):  # JSON knows one kind
            return len(a) == len(b) and all(map(self.same, a, b))
        if type(a) is type(b):
            equal = _equal(a, b)
            if equal or isinstance(a, float | Decimal):
                return equal or (a != a and b != b)  # not a number
        elif type(a) in self._declared or fields is None or not isinstance(a, type(b)):
            return False
        else:
            equal = False
            if _fields_of(a) != fields:
                return False
        if fields is not None:
            alike = (self.same(getattr(a, f, None), getattr(b, f, None)) for f in fields)
            return all(alike) and self.same(_extra(a), _extra(b))
        if issubclass(type(a), dict):
            return a.keys() == b.keys() and all(self.same(a[key], b[key]) for key in a)
        if issubclass(type(a), deque):
            return len(a) == len(b) and all(map(self.same, a, b))
        if isinstance(a, datetime):  # an hour that comes twice equals none of another time zone
            aware = a.tzinfo is not None and b.tzinfo is not None
            return aware and a.timestamp() == b.timestamp()
        self.is_opaque = self.is_opaque or equal is None
        return equal is None


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _equal(a: Any, b: Any) -> bool | None:
    """Whether `a == b`; None where their class does not say."""
    try:
        if a == b:
            return True
    except Exception:  # such as an array's, which is equal in parts
        return None
    own: object = type(a).__eq__
    return None if own is object.__eq__ else False


def _fields_of(value: Any) -> list[str] | None:
    """The names of the fields that are kept, of a model or a dataclass."""
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


def _classes(schema: Any) -> Iterator[type]:
    """The classes that a pydantic core schema names."""
    if isinstance(schema, dict):
        for key, part in cast("dict[str, Any]", schema).items():
            if key == "cls" and isinstance(part, type):
                yield part
            elif key not in ("metadata", "default"):
                yield from _classes(part)
    elif isinstance(schema, list | tuple):
        for part in cast("list[Any]", schema):
            yield from _classes(part)


def issues_of(error: pydantic.ValidationError) -> list[Issue]:
    """Each issue of a pydantic error, without the values (they may be secrets)."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        Issue(loc=".".join(map(str, each["loc"])), msg=each["msg"], type=each["type"])
        for each in found
    ]
