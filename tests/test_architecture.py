"""What must stay true of the source as a whole (the layers are import-linter's: `make check`)."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import fields

import wakelog
from tests.golden.make import EXAMPLES
from wakelog.core import events
from wakelog.core.events import EVENTS, Event
from wakelog.core.pool import events as pool_events
from wakelog.history.descriptions import describe
from wakelog.ids import KINDS, Kind
from wakelog.kinds import BEHAVIOURS
from wakelog.log.records import Recorded

ROOT = Path(__file__).parent.parent
SOURCES = ("engine", "projections", "adapters")
MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION = 400, 700, 60
"""Lines. There is no list of exceptions."""
MAX_MODULES = 17
"""Of one folder, `__init__.py` not counted: what fits into one look."""
MAX_KIND = 150
"""Lines of a type of job: what is the same for all types is not in there."""

KIND_FILES = sorted((ROOT / "engine/wakelog/kinds").glob("*.py"))
KINDS_MAY_IMPORT = ("__future__", "abc", "collections.abc", "dataclasses", "typing",
                    "wakelog.core", "wakelog.ids", "wakelog.kinds")  # fmt: skip


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


# -- the grid of kinds: a row of files for each type of job, and one table in each layer -----------

GRID = (
    *("engine/wakelog/kinds", "engine/wakelog/definitions", "engine/wakelog/client"),
    *("adapters/wakelog_adapters/cli/commands", "adapters/wakelog_adapters/cli/render"),
)
KIND_TABLES = {
    "engine/wakelog/ids.py": "their names",
    "engine/wakelog/kinds/__init__.py": "their behaviours",
    "engine/wakelog/client/job_types.py": "their clients and statuses",
    "adapters/wakelog_adapters/cli/job_types.py": "their commands and how they are shown",
}
"""The one table of each layer: a new type of job is a line there, and nothing elsewhere."""


def file_of(kind: Kind) -> str:
    """`workerPool` -> `worker_pool.py`."""
    return re.sub("([A-Z])", r"_\1", kind).lower() + ".py"


def is_of_a_kind(path: Path) -> bool:
    """Whether it is in the row of a type of job, so that it may know that one."""
    return name_of(path.parent) in GRID and path.name in map(file_of, KINDS)


def class_names(kind: Kind) -> set[str]:
    name = kind[0].upper() + kind[1:]
    return {name, f"Blocking{name}Client"} | {
        f"{name}{part}" for part in ("Behaviour", "Client", "Context", "Status")
    }


KIND_CLASSES = {name for kind in KINDS for name in class_names(kind)}


def distinctions(tree: ast.Module) -> Iterator[ast.AST]:
    """What a module compares with, matches, tests the class by, or looks up by."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                yield node
            case ast.MatchValue():
                yield node.value
            case ast.MatchClass():
                yield node.cls
            case ast.Call(func=ast.Name("isinstance" | "issubclass"), args=[_, classes]):
                yield classes
            case ast.Subscript(slice=ast.Constant() | ast.Tuple([ast.Constant(), *_])):
                yield node.slice
            case ast.Subscript(slice=ast.Attribute(attr="kind")):
                yield node.slice
            case ast.Dict():
                yield from (key for key in node.keys if key is not None)
            case _:
                pass


def kinds_named(node: ast.AST) -> set[object]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return words_of(node) & set(KINDS) | names & KIND_CLASSES


def told_apart(tree: ast.Module) -> list[str]:
    """Where a module distinguishes types of job, by a literal or by a class."""
    return [ast.unparse(node) for node in distinctions(tree) if kinds_named(node)]


@pytest.mark.parametrize("path", files(*SOURCES), ids=name_of)
def test_only_the_table_of_a_layer_tells_kinds_apart(path: Path) -> None:
    if name_of(path) in KIND_TABLES or "conformance" in path.parts:
        return
    found = told_apart(tree_of(path))
    assert found == [], f"{name_of(path)} tells types of job apart: ask the policy or the table"


@pytest.mark.parametrize(
    "code",
    [
        "if id.kind == 'task': pass",
        "match kind:\n case 'debounce': pass",
        "TABLE = {'continuous': 1}",
        "TABLE['workerPool']",
        "if definition.kind == Task.kind: pass",
        "match found:\n case TaskStatus(): pass",
        "isinstance(found, TaskStatus | DebounceStatus)",
        "TABLE = {Debounce.kind: 1}",
        "TABLE[Continuous.kind]",
    ],
)
def test_a_kind_that_is_told_apart_is_seen(code: str) -> None:
    assert told_apart(ast.parse(code))


def test_a_kind_in_an_annotation_tells_nothing_apart() -> None:
    code = "def f(g: Callable[[TaskContext[S]], None], h: Task[S, E]) -> asyncio.Task[int]: ..."
    assert told_apart(ast.parse(code)) == []


@pytest.mark.parametrize("folder", GRID)
@pytest.mark.parametrize("kind", BEHAVIOURS)
def test_a_kind_has_a_file_of_its_name_in_each_layer(kind: Kind, folder: str) -> None:
    assert (ROOT / folder / file_of(kind)).is_file(), f"{folder} has no {file_of(kind)}"


WINDOW_ATTRIBUTES = {"batching", "window", "window_rule", "windows"}
WINDOW_CLASSES = {"MAX_WINDOW_EVENTS", "Window", "WindowMode", "WindowRule"}
MAY_NAME_WINDOWS = {
    "engine/wakelog/core/windows.py": "the rule",
    "engine/wakelog/core/instance.py": "the fields, and the neutral questions about them",
    "engine/wakelog/core/evolve.py": "the fold",
    "engine/wakelog/core/events.py": "the fields of events",
    "engine/wakelog/history/descriptions.py": "the fields of events, in words",
    "engine/wakelog/log/status_row.py": "the columns of a row",
}


@pytest.mark.parametrize("path", files(*SOURCES), ids=name_of)
def test_only_the_kind_that_has_windows_knows_them(path: Path) -> None:
    """Others ask neutrally: `policy.place`, `Then.takes`, `HandlerCall.batch_versions`,
    `Instance.visible_schedule_us`."""
    if name_of(path) in MAY_NAME_WINDOWS or is_of_a_kind(path):
        return
    found = [
        ast.unparse(node)
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in WINDOW_ATTRIBUTES)
        or (isinstance(node, ast.Name) and node.id in WINDOW_CLASSES)
    ]
    assert found == [], f"{name_of(path)} knows windows: ask the policy or the instance"


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


BASES = {"Batch", "_ByOperator"}
"""What several events have in common: no events themselves."""


def event_classes(cls: type[Event] = Event) -> list[type[Event]]:
    found = [each for sub in cls.__subclasses__() for each in (sub, *event_classes(sub))]
    return [each for each in found if each.__name__ not in BASES]


def test_every_event_has_a_topic_of_its_own_and_can_be_found_by_it() -> None:
    classes = event_classes()
    assert {cls: cls.TOPIC for cls in classes} == {
        cls: f"wakelog.{cls.__name__}" for cls in classes
    }
    assert all("TOPIC" in vars(cls) for cls in classes)
    assert set(EVENTS.values()) == set(classes)
    assert len(EVENTS) == len(classes)
    assert {cls.__name__ for cls in classes} <= {*events.__all__, *pool_events.__all__}


@pytest.mark.parametrize("cls", EVENTS.values(), ids=lambda cls: cls.__name__)
def test_an_event_is_frozen_documented_and_has_at_most_one_payload(cls: type[Event]) -> None:
    assert cls.__struct_config__.frozen
    assert cls.__doc__
    apart = [field.name for field in fields(cls) if events.APART in get_args(field.type)]
    said = [name for name in ("message", "traceback") if name in cls.__struct_fields__]
    lines = ["lines"] if issubclass(cls, pool_events.Batch) else []
    payload = [cls.PAYLOAD] if cls.PAYLOAD else []
    assert apart == lines + said + payload, "what an error said is `Said`"


@pytest.mark.parametrize("event", EXAMPLES.values(), ids=EXAMPLES)
def test_an_event_is_described_in_plain_words(event: Event) -> None:
    words = describe(Recorded("task:job:a", 1, 0, "c", None, None, None, "", "", event))
    assert words
    assert words != type(event).__name__


# -- sizes and surface -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", files(*SOURCES, "tests", "examples"), ids=name_of)
def test_a_file_is_short(path: Path) -> None:
    limit = MAX_TEST_FILE if path.is_relative_to(ROOT / "tests") else MAX_FILE
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= limit, f"{name_of(path)} has {lines} lines, at most {limit}: split it"


@pytest.mark.parametrize("path", files(*SOURCES, "tests", "examples"), ids=name_of)
def test_a_function_is_short(path: Path) -> None:
    lines = {
        f"{node.name}:{node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: count for name, count in lines.items() if count > MAX_FUNCTION}
    assert long == {}, f"{name_of(path)} has functions of more than {MAX_FUNCTION} lines"


def test_a_folder_can_be_read_in_one_look() -> None:
    modules = Counter(path.parent for path in files(*SOURCES) if path.name != "__init__.py")
    full = {name_of(path): count for path, count in modules.items() if count > MAX_MODULES}
    assert full == {}, f"folders of more than {MAX_MODULES} modules"


@pytest.mark.parametrize("path", files(*SOURCES), ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


def test_the_public_words_are_there_and_in_order() -> None:
    assert all(hasattr(wakelog, name) for name in wakelog.__all__)
    assert len(set(wakelog.__all__)) == len(wakelog.__all__)
    assert wakelog.__all__ == sorted(wakelog.__all__)


# -- private attributes in tests -------------------------------------------------------------------

MAX_PRIVATE = 10
"""Places in the tests that use a private attribute of another object. Each ties a test to how
something is done: give the class a documented attribute, or test what can be seen from outside."""

PRIVATE = {
    "tests/engine/client/test_arguments.py: kept._private": "pydantic's, of the test's own model",
    "tests/forking.py: os._exit": "public, in spite of its name",
    "tests/support_postgres.py: handle._cleanup": "pgserver's: it has no public way",
}
"""Where, and why there is no other way."""


def private_uses(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Attribute) or not re.match("_[^_]", node.attr):
            continue
        owner = node.value.func if isinstance(node.value, ast.Call) else node.value
        if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls", "super")):
            yield f"{name_of(path)}: {ast.unparse(node)}"


def test_tests_reach_into_others_almost_nowhere() -> None:
    found = [use for path in files("tests") for use in private_uses(path)]
    unlisted = sorted(set(found) - set(PRIVATE))
    assert unlisted == [], "private attributes of another object"
    assert set(PRIVATE) <= set(found), "listed, and no longer used"
    assert len(found) <= MAX_PRIVATE
