"""What must stay true of the source as a whole (the layers are import-linter's: `make check`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import wakelog
from tests.golden.make import EXAMPLES
from wakelog.core import events
from wakelog.core.events import EVENTS, Event
from wakelog.history.descriptions import describe
from wakelog.ids import KINDS
from wakelog.log.records import Recorded

ROOT = Path(__file__).parent.parent
SOURCES = ("engine", "projections", "adapters")
MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION = 400, 700, 70
MAX_KIND = 150
"""Lines of a type of job: what is the same for all is not in there."""

LONG_FILES = {"engine/wakelog/application.py": 500}
LONG_FUNCTIONS = {"adapters/wakelog_adapters/postgres/queries.py:__init__": 95}
"""The exceptions, each with a bound of its own: to be made shorter, never to be added to."""

KIND_FILES = sorted((ROOT / "engine/wakelog/kinds").glob("*.py"))
KINDS_MAY_IMPORT = ("__future__", "collections.abc", "dataclasses", "typing", "wakelog.core",
                    "wakelog.ids", "wakelog.kinds")  # fmt: skip
MAY_NAME_KINDS = {"engine/wakelog/ids.py"}


def files(*roots: str) -> list[Path]:
    return [path for root in roots for path in sorted((ROOT / root).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def words_of(node: ast.AST) -> set[object]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}


# -- kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KIND_FILES, ids=name_of)
def test_a_kind_only_answers_questions(path: Path) -> None:
    """No `try`, no `await`, no clock, port or context: it decides, and somebody else does."""
    acts = (ast.Try, ast.TryStar, ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith,
            ast.With, ast.Raise, ast.Global)  # fmt: skip
    found = [type(node).__name__ for node in ast.walk(tree_of(path)) if isinstance(node, acts)]
    assert found == []
    foreign = [name for name in imports_of(path) if not name.startswith(KINDS_MAY_IMPORT)]
    assert foreign == []


@pytest.mark.parametrize("path", KIND_FILES, ids=name_of)
def test_a_kind_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_KIND


@pytest.mark.parametrize("path", files(*SOURCES), ids=name_of)
def test_nobody_but_the_table_of_kinds_tells_them_apart(path: Path) -> None:
    if path in KIND_FILES or name_of(path) in MAY_NAME_KINDS or "conformance" in path.parts:
        return
    for node in ast.walk(tree_of(path)):
        told: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            told = [node]
        elif isinstance(node, ast.MatchValue):
            told = [node.value]
        elif isinstance(node, ast.Subscript):
            told = [node.slice]
        elif isinstance(node, ast.Dict):
            told = [key for key in node.keys if key is not None]
        for each in told:
            assert not words_of(each) & set(KINDS), f"{ast.unparse(node)} matches on kinds"


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", files("engine", "projections"), ids=name_of)
def test_nobody_but_the_clock_asks_the_machine_for_the_time(path: Path) -> None:
    if name_of(path) == "engine/wakelog/clock.py":
        return
    assert "time" not in imports_of(path)
    asks = [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date", "time")
        and node.attr in ("now", "utcnow", "today", "time", "time_ns", "monotonic")
    ]
    assert asks == []


@pytest.mark.parametrize("path", files("tests", "examples"), ids=name_of)
def test_no_test_sleeps(path: Path) -> None:
    """`sleep(0)` lets others have their turn; a handler's own pause is part of what it does."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
            pytest.fail(f"{name_of(path)}:{node.lineno} sleeps")


# -- events ----------------------------------------------------------------------------------------


def event_classes(cls: type[Event] = Event) -> list[type[Event]]:
    return [each for sub in cls.__subclasses__() for each in (sub, *event_classes(sub))]


def test_every_event_has_a_topic_of_its_own_and_can_be_found_by_it() -> None:
    classes = event_classes()
    assert {cls: cls.TOPIC for cls in classes} == {
        cls: f"wakelog.{cls.__name__}" for cls in classes
    }
    assert all("TOPIC" in vars(cls) for cls in classes)
    assert list(EVENTS.values()) == classes
    assert {cls.__name__ for cls in classes} <= set(events.__all__)


@pytest.mark.parametrize("cls", EVENTS.values(), ids=lambda cls: cls.__name__)
def test_an_event_is_frozen_documented_and_has_at_most_one_payload(cls: type[Event]) -> None:
    assert cls.model_config.get("frozen") is True
    assert cls.__doc__
    excluded = [name for name, field in cls.model_fields.items() if field.exclude]
    assert excluded == ([cls.PAYLOAD] if cls.PAYLOAD else [])


@pytest.mark.parametrize("event", EXAMPLES.values(), ids=EXAMPLES)
def test_an_event_is_described_in_plain_words(event: Event) -> None:
    words = describe(Recorded("task:job:a", 1, 0, "c", None, None, None, "", "", event))
    assert words
    assert words != type(event).__name__


# -- sizes and surface -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", files(*SOURCES, "tests", "examples"), ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    name = name_of(path)
    limit = MAX_TEST_FILE if path.is_relative_to(ROOT / "tests") else MAX_FILE
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= LONG_FILES.get(name, limit)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            bound = LONG_FUNCTIONS.get(f"{name}:{node.name}", MAX_FUNCTION)
            assert length <= bound, f"{node.name} has {length} lines"


def test_an_exception_that_is_needed_no_more_is_taken_back() -> None:
    for name, bound in LONG_FILES.items():
        lines = len((ROOT / name).read_text("utf-8").splitlines())
        assert MAX_FILE < lines <= bound, f"{name} has {lines} lines"


@pytest.mark.parametrize("path", files(*SOURCES), ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


def test_the_public_words_are_there_and_in_order() -> None:
    assert all(hasattr(wakelog, name) for name in wakelog.__all__)
    assert len(set(wakelog.__all__)) == len(wakelog.__all__)
    assert wakelog.__all__ == sorted(wakelog.__all__)
