"""Schemas: users' types, validated on entry and kept as JSON that reads back as the same value."""

from __future__ import annotations

import functools
from collections.abc import Collection, Set
from typing import Any, Generic, TypeVar, cast

import pydantic
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json, to_json

from wakelog.definitions.round_trip import (
    RoundTrip,
    decides_class,
    differs_at,
    equal,
    nodes,
    unwritable_at,
)
from wakelog.definitions.unions import alike, never_read_back
from wakelog.errors import Issue, ValidationError

__all__ = ["TypeSchema", "issues_of"]

S = TypeVar("S")

MAX_MESSAGE = 300
"""How many characters are shown of what pydantic says of a type: it may quote what was given."""


class TypeSchema(Generic[S]):
    """A user's type: values are validated and written on entry, and decoded anew for each reader.

    The text has the field names of the class, not their aliases, and no computed fields: so it
    always reads back.
    """

    def __init__(self, type_: Any, what: str) -> None:
        self.what = what
        try:
            self._adapter: TypeAdapter[S] = TypeAdapter(type_)
        except Exception as error:  # what is no type at all meets anything in pydantic
            raise self._no_type(error) from error

    def complete(self) -> None:
        """Resolve forward references; raises `ValidationError` if a name is not defined."""
        try:
            self._adapter.rebuild()
            _ = self._adapter.validator.title  # raises if the type is not complete
        except Exception as error:
            raise self._no_type(error) from error
        if any(node.get("type") == "generator" for node in nodes(self._adapter.core_schema)):
            raise self._no_type(ValueError("its values can be read once: give a list or a tuple"))
        for one, other in alike(self._adapter.core_schema):
            names = f"{one.__qualname__} and {other.__qualname__}"
            fault = f"{names} of a union look the same as JSON: {_TELL_APART}"
            raise self._no_type(ValueError(fault))

    def check_unions(self) -> None:
        """Raises `ValidationError` for a union with a member of which no value can be kept, since
        each would be read back as another member."""
        for one, other in never_read_back(self._adapter.core_schema):
            fault = f"{one} and {other} of a union look the same as JSON, and each {one} would be"
            raise self._no_type(ValueError(f"{fault} read back as {other}: {_NAME_ONE}"))

    def check_json(self) -> None:
        """Raises `ValidationError` for a type without a JSON form, for example a function."""
        self.complete()
        try:
            self._adapter.json_schema(schema_generator=_Silent)
        except Exception as error:
            raise self._no_type(error) from error

    def _no_type(self, error: Exception) -> ValidationError:
        lines = str(error).splitlines() or [type(error).__name__]
        issue = Issue(loc="", msg=lines[0][:MAX_MESSAGE], type="type")
        return ValidationError(f"the type given as {self.what}=", [issue])

    def dump(self, value: object, name: str) -> tuple[str, S]:
        """The JSON text of `value`, and the value read back from it: an independent copy.

        Raises `ValidationError` with each issue, also if the text would not read back as the same
        value.
        """
        data, valid, again = self._through(value, name)
        likely = type(again) is type(valid) and self._decides_classes and equal(again, valid)
        if not likely and (issue := self._change(data, valid, again)) is not None:
            raise ValidationError(f"{self.what} of {name!r}", [issue])
        return data.decode(), again

    def shown(self, value: object, name: str) -> str:
        """The JSON text of a value that is only shown. Raises `ValidationError`."""
        return self._through(value, name)[0].decode()

    def _through(self, value: object, name: str) -> tuple[bytes, S, S]:
        """The text, the validated value that it was written from, and the value read back."""
        try:
            valid = self._adapter.validator.validate_python(value)
            data = self._text(valid)
            return data, valid, self._adapter.validator.validate_json(data, by_name=True)
        except pydantic.ValidationError as error:
            raise ValidationError(f"{self.what} of {name!r}", issues_of(error)) from error
        except (ValueError, TypeError) as error:
            issue = Issue(loc=unwritable_at(value), msg=str(error), type=type(error).__name__)
            raise ValidationError(f"{self.what} of {name!r}", [issue]) from error

    def _text(self, valid: S) -> bytes:
        serializer = self._adapter.serializer  # without the adapter's checks of its arguments
        data = serializer.to_json(valid, by_alias=False, round_trip=True, warnings=False)
        if not self._has_sets:
            return data
        return to_json(_sets_in_order(valid, from_json(data)))

    @functools.cached_property
    def _has_sets(self) -> bool:
        """Whether the text may depend on the process that writes it: the order of sets does."""
        kinds = (node.get("type") for node in nodes(self._adapter.core_schema))
        return any(kind in ("set", "frozenset") for kind in kinds if isinstance(kind, str))

    @functools.cached_property
    def _decides_classes(self) -> bool:
        """Whether the type alone determines the class of each part, so that `==` is sufficient."""
        return all(map(decides_class, nodes(self._adapter.core_schema)))

    @functools.cached_property
    def _declared(self) -> frozenset[type]:
        """The classes that the type names."""
        named = (node.get("cls") for node in nodes(self._adapter.core_schema))
        return frozenset(each for each in named if isinstance(each, type))

    def _change(self, data: bytes, valid: S, again: S) -> Issue | None:
        """How the value read back is another one, compared part by part; None if it is the same.
        The slow path."""
        comparison = RoundTrip(self._declared)
        if not comparison.same(valid, again):
            return _changed(comparison.loc, *(comparison.classes or (type(valid), type(again))))
        if not comparison.is_opaque or (text := self._text(again)) == data:
            return None
        return _changed(differs_at(from_json(data), from_json(text)))

    def load(self, text: str) -> S:
        """A new value of recorded JSON text. Raises pydantic's error if it does not fit."""
        value: S = self._adapter.validator.validate_json(text, by_name=True)
        return value

    def try_load(self, text: str) -> S | Exception:
        """As `load`, but returns the exception."""
        try:
            return self.load(text)
        except pydantic.ValidationError as error:
            return error


class _Silent(GenerateJsonSchema):
    """Only checks that there is a JSON schema, so its warnings do not matter."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012  pydantic's


_TELL_APART = 'give each class a field that tells it, as in kind: Literal["paid"] = "paid"'
_NAME_ONE = 'name one of them, or put each into a class with a kind: Literal["a"] = "a" of its own'


def _changed(loc: str, given: type = object, read: type = object) -> Issue:
    """That a part of a value would be changed, and what to do about it."""
    message = "does not read back as what was given"
    if read in (given, type(None)):  # an infinity has no JSON, and is written as null
        message += ": keep secrets and infinities out"
    else:
        message += f", {_one(given)} as {_one(read)}: name its type (Any, dict and list keep plain "
        message += "JSON only), and give each class of a union a literal `kind`"
    return Issue(loc=loc, msg=message, type="round_trip")


def _one(class_: type) -> str:
    name = class_.__name__
    return f"{'an' if name[:1] in 'aeiouAEIO' else 'a'} {name}"


def _sets_in_order(value: Any, data: Any) -> Any:
    """The JSON `data` of `value`, with the elements of sets sorted: the order in which a set is
    iterated differs from process to process. A part that is serialized in another shape stays as it
    is."""
    if isinstance(value, pydantic.RootModel):
        return _sets_in_order(cast("Any", value).root, data)
    if isinstance(data, list):
        items = list(cast("Any", data))
        if not isinstance(value, Collection) or len(cast("Any", value)) != len(items):
            return items
        items = list(map(_sets_in_order, cast("Any", value), items))
        return sorted(items, key=to_json) if isinstance(value, Set) else items
    if not isinstance(data, dict):
        return data
    fields = cast("dict[str, Any]", data)
    if not isinstance(value, dict):
        parts = [getattr(value, name, None) for name in fields]
    elif len(cast("Any", value)) == len(fields):
        parts = list(cast("Any", value).values())
    else:
        return fields
    return dict(zip(fields, map(_sets_in_order, parts, fields.values()), strict=True))


def issues_of(error: pydantic.ValidationError) -> list[Issue]:
    """Each issue of a pydantic error, without the values (they may be secrets)."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        Issue(loc=".".join(map(str, each["loc"])), msg=each["msg"], type=each["type"])
        for each in errors
    ]
