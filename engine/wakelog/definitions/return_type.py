"""The return type of a function, as a schema for its recorded result."""

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
"""How many schemas are cached: building one costs more than most steps."""

_AWAITABLE = (collections.abc.Awaitable, collections.abc.Coroutine)


def result_schema(fn: Callable[..., Any], given: Any, what: str) -> TypeSchema[Any]:
    """The schema of the type `given`, else of the annotation of `fn`, else of JSON data.

    Raises `ValidationError`, naming it `what`, for a type that cannot be kept as JSON.
    """
    type_ = _returned(fn, what) if given is None else given
    if type_ in (Any, inspect.Signature.empty):
        type_ = JsonValue
    try:
        key = hash(type_), repr(type_)
    except Exception:  # it can be no key of the cache
        return _made(type_)
    return _schema(type_, key[1])


def _returned(fn: Callable[..., Any], what: str) -> Any:
    """The annotation; `Signature.empty` if there is none."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if isinstance(fn, type):
        return fn
    if not hasattr(fn, "__annotations__"):
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004  the annotations of its `__call__`
    try:
        annotated = getattr(fn, "__annotations__", {})
        if "return" not in annotated:
            return inspect.Signature.empty
        only_return = types.SimpleNamespace(__annotations__={"return": annotated["return"]})
        names = getattr(fn, "__globals__", {})
        type_ = typing.get_type_hints(only_return, names, include_extras=True)["return"]
    except Exception as error:  # it may be anything
        message = f"the return annotation of {fn!r} cannot be resolved ({error}): pass result="
        raise ValidationError(what, [Issue(loc="result", msg=message, type="type")]) from error
    if typing.get_origin(type_) in _AWAITABLE:
        return typing.get_args(type_)[-1]
    return type_


@functools.lru_cache(MAX_KNOWN)
def _schema(type_: Any, _order: str) -> TypeSchema[Any]:
    """`_order` distinguishes unions that differ only in their order: for Python they are equal."""
    return _made(type_)


def _made(type_: Any) -> TypeSchema[Any]:
    schema = TypeSchema[Any](type_, "result")
    schema.check_json()
    return schema
