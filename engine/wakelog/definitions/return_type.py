"""What a function says it returns, as a schema that can keep it."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue

from wakelog.definitions.schema import TypeSchema
from wakelog.errors import Issue, ValidationError

__all__ = ["result_schema"]

MAX_KNOWN = 1_000
"""Types whose schemas are kept at hand: to make one costs more than most steps."""

_AWAITABLE = (collections.abc.Awaitable, collections.abc.Coroutine)


def result_schema(fn: Callable[..., Any], given: Any, what: str) -> TypeSchema[Any]:
    """The schema of the type `given`, else of what `fn` is annotated with, else of JSON data.

    Raises `ValidationError`, naming it `what`, for a type that cannot be kept as JSON.
    """
    type_ = _returned(fn, what) if given is None else given
    if type_ in (Any, inspect.Signature.empty):
        type_ = JsonValue
    try:
        return _schema(type_, repr(type_))
    except TypeError:  # a type that has no hash
        return _made(type_)


def _returned(fn: Callable[..., Any], what: str) -> Any:
    """The annotation; `Signature.empty` where there is none."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if isinstance(fn, type):
        return fn
    if not hasattr(fn, "__annotations__"):
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004  its annotations, not whether it has one
    try:
        annotated = getattr(fn, "__annotations__", {})
        if "return" not in annotated:
            return inspect.Signature.empty
        said = types.SimpleNamespace(__annotations__={"return": annotated["return"]})
        names = getattr(fn, "__globals__", {})
        type_ = typing.get_type_hints(said, names, include_extras=True)["return"]
    except (NameError, AttributeError, SyntaxError) as error:
        message = f"what {fn!r} is annotated to return cannot be looked up ({error}): give result="
        raise ValidationError(what, [Issue(loc="result", msg=message, type="type")]) from error
    if typing.get_origin(type_) in _AWAITABLE:
        return typing.get_args(type_)[-1]
    return type_


@functools.lru_cache(MAX_KNOWN)
def _schema(type_: Any, _order: str) -> TypeSchema[Any]:
    """`_order` tells unions apart that differ in their order only: Python takes them for equal."""
    return _made(type_)


def _made(type_: Any) -> TypeSchema[Any]:
    schema = TypeSchema[Any](type_, "result")
    schema.check_json()
    return schema
