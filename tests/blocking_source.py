"""Write the blocking calls: the same methods as the async ones, from their source.

    python -m tests.blocking_source        (make blocking)

Each async client, and the async app, has a module of its own in `wakelog/blocking`. What is public
there comes out with its signature and its docstring, so that help(), editors, type checkers and
`create_autospec` find real methods. What is written by hand, in `blocking/app.py`, is named in
`BY_HAND`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODULES", "Module", "source_of"]

ENGINE = Path(__file__).parents[1] / "engine"
BY_HAND = {"own", "start_worker", "is_closed", "is_idle", "close", "blocking", "follow"}
"""What `blocking/app.py` has itself, or does not offer: what belongs to the life of the app, and
what answers something to be awaited bit by bit."""
AS_IT_IS = {"names", "metrics"}
"""Methods that block on nothing: they are called where the caller is."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module with async classes, and the one that is made of it."""

    source: str
    name: str
    about: str
    classes: dict[str, str]
    """The class that is made, by its async class."""
    imports: str = ""
    """What the classes that are made derive from, if it is in another module that is made."""

    @property
    def path(self) -> Path:
        """The file that is made."""
        return ENGINE / "wakelog/blocking" / f"{self.name}.py"


BASES = """from wakelog.blocking.instances import BlockingEventClient, BlockingJobClient
from wakelog.blocking.pool_accepting import BlockingPoolAccepts"""
PORTAL = "from wakelog.blocking.portal import Portal"
MODULES = (
    Module(
        "wakelog.client.base",
        "instances",
        "What can be requested of the instances of any job, blocking.",
        {"JobClient": "BlockingJobClient", "EventClient": "BlockingEventClient"},
    ),
    Module(
        "wakelog.client.pool.accepting",
        "pool_accepting",
        "The part of a blocking pool client that accepts events.",
        {"PoolAccepts": "BlockingPoolAccepts"},
    ),
    *(
        Module(
            f"wakelog.client.{name}",
            name,
            f"The blocking client of a {word}.",
            {f"{word}Client": f"Blocking{word}Client"},
            BASES,
        )
        for name, word in (
            ("task", "Task"),
            ("continuous", "Continuous"),
            ("debounce", "Debounce"),
            ("worker_pool", "WorkerPool"),
        )
    ),
    Module(
        "wakelog.follow.calls",
        "follower_calls",
        "The calls of an app that are about followers of the log, blocking.",
        {"FollowerCalls": "BlockingFollowerCalls"},
    ),
    Module(
        "wakelog.app",
        "questions",
        "What can be asked of all jobs of an app, and done to them, blocking.",
        {"App": "BlockingQuestions"},
        "from wakelog.blocking.follower_calls import BlockingFollowerCalls",
    ),
)
RENAMED = {old: new for module in MODULES for old, new in module.classes.items() if old != "App"}

type_vars = re.compile(r"^(\w+) = TypeVar\(", re.MULTILINE)


class Maker:
    """Makes the source of one module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        path = ENGINE / (module.source.replace(".", "/") + ".py")
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text)

    def made(self) -> str:
        """The whole source, formatted."""
        classes = "\n\n\n".join(self._class(node) for node in self._classes())
        variables = [
            ast.get_source_segment(self.text, node) or ""
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            and type_vars.match(ast.unparse(node))
            and re.search(rf"\b{ast.unparse(node.targets[0])}\b", classes)
        ]
        body = "\n".join(variables) + "\n\n\n" + classes
        names = ", ".join(f'"{name}"' for name in sorted(self.module.classes.values()))
        return _formatted(
            f'"""{self.module.about}\n\nMade from {self.module.source} by `make blocking`: change '
            f'that one.\n"""\n\nfrom __future__ import annotations\n\n'
            f"{self._imports(body)}\n\n__all__ = [{names}]\n\n{body}\n"
        )

    def _classes(self) -> Iterator[ast.ClassDef]:
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name in self.module.classes:
                yield node

    def _imports(self, body: str) -> str:
        """The lines that import what the body names, and from where the async module has it."""
        used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
        lines = [PORTAL]
        if "Coroutine" in used:
            lines += ["from collections.abc import Coroutine", "from typing import Any"]
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module != "__future__":
                found = [a.asname or a.name for a in node.names if (a.asname or a.name) in used]
                lines += [f"from {node.module} import {name}" for name in found]
            elif isinstance(node, ast.Import):
                lines += [f"import {a.name}" for a in node.names if a.name in used]
            elif isinstance(node, ast.ClassDef) and node.name in used:
                lines.append(f"from {self.module.source} import {node.name}")
        for line in self.module.imports.splitlines():
            where, _, names = line.partition(" import ")
            lines += [f"{where} import {name}" for name in names.split(", ") if name in used]
        return "\n".join(lines)

    def _class(self, node: ast.ClassDef) -> str:
        made = self.module.classes[node.name]
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        for old, new in RENAMED.items():
            bases = re.sub(rf"\b{old}\b", new, bases)
        parameters = _parameters(node)
        client = f"{node.name}[{parameters}]" if parameters else node.name
        attribute = "app" if node.name == "App" else "_" + _snake(node.name)
        derived = any(re.search(rf"\b{new}\b", bases) for new in RENAMED.values())
        given = attribute if node.name == "App" else "client"
        init = (
            f"    def __init__(self, {given}: {client}, portal: Portal) -> None:\n"
            + (f"        super().__init__({given}, portal)\n" if derived else "")
            + f"        self.{attribute} = {given}\n"
            + ('        """The async app; not part of the stable interface."""\n'
               if node.name == "App" else "")
            + ("" if derived else "        self._portal = portal\n")
        )  # fmt: skip
        about = self.module.about if node.name == "App" else _docstring(node)
        doc = f'    """{about}"""\n\n'
        methods = "\n".join(self._methods(node, attribute))
        return f"class {made}{f'({bases})' if bases else ''}:\n{doc}{init}\n{methods}"

    def _methods(self, node: ast.ClassDef, attribute: str) -> Iterator[str]:
        overloaded = {
            each.name
            for each in _functions(node)
            if isinstance(each, ast.FunctionDef) and _decorated(each, "overload")
        }
        for each in _functions(node):
            if each.name.startswith("_") or each.name in overloaded | BY_HAND:
                continue
            is_plain = isinstance(each, ast.FunctionDef) and not _decorated(each, "property")
            assert not is_plain or each.name in AS_IT_IS, (
                f"{node.name}.{each.name} is no coroutine function: write its blocking one by "
                f"hand, in blocking/app.py, and name it in BY_HAND; or in AS_IT_IS, if it never "
                f"waits"
            )
            yield self._method(each, attribute)

    def _method(self, node: ast.FunctionDef | ast.AsyncFunctionDef, attribute: str) -> str:
        lines = self.text.splitlines()
        if _decorated(node, "overload"):
            stub = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            return f"    @overload\n{stub.replace('async def', 'def', 1)}"
        first = node.body[0].lineno - 1
        signature = "\n".join(lines[node.lineno - 1 : first]).replace("async def", "def", 1)
        call = f"self.{attribute}.{node.name}"
        if _decorated(node, "property"):
            signature = f"    @property\n{signature}"
        else:
            call += f"({_passed(node.args)})"
        if isinstance(node, ast.AsyncFunctionDef):
            call = f"self._portal.call(lambda: {call})"
        about = f'{signature}\n        """{_docstring(node)}"""\n'
        if any(each.arg == "connection" for each in node.args.kwonlyargs):
            return about + _sending(node, f"self.{attribute}.{node.name}")
        return f"{about}        return {call}\n"


def _sending(node: ast.FunctionDef | ast.AsyncFunctionDef, call: str) -> str:
    """The body of a method with a `connection`: with one, the call is made on this thread."""
    assert node.returns is not None
    answer = f"Coroutine[Any, Any, {ast.unparse(node.returns)}]"
    return (
        f"        call: Any = {call}\n\n"
        f"        def make() -> {answer}:\n"
        f"            sending: {answer} = call({_passed(node.args)})\n"
        f"            return sending\n\n"
        f"        portal = self._portal\n"
        f"        return portal.call(make) if connection is None else portal.at_once(make)\n"
    )


def _functions(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for each in node.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each


def _decorated(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in node.decorator_list)


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """As it is written, with its indentation; without `await`, which is not said here."""
    text = ast.get_docstring(node, clean=False)
    assert text, f"{node.name} has no docstring"
    return text.replace("await app.", "app.")


def _parameters(node: ast.ClassDef) -> str:
    """The type variables of a class, as it names them: `S, E`."""
    for base in reversed(node.bases):
        if isinstance(base, ast.Subscript):
            names = [ast.unparse(base.slice)]
            if isinstance(base.slice, ast.Tuple):
                names = [ast.unparse(each) for each in base.slice.elts]
            return ", ".join(names)
    return ""


def _passed(arguments: ast.arguments) -> str:
    """The arguments of a method, passed on."""
    passed = [each.arg for each in arguments.posonlyargs + arguments.args if each.arg != "self"]
    passed += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    passed += [f"{each.arg}={each.arg}" for each in arguments.kwonlyargs]
    passed += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return ", ".join(passed)


def _snake(name: str) -> str:
    return re.sub("(?<!^)([A-Z])", r"_\1", name).lower()


def _formatted(text: str) -> str:
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--fix-only", "--quiet", "--select", "I,F401", "-"],
        ["format", "--quiet", "-"],
    ):
        named = [*command[:-1], "--stdin-filename", str(ENGINE / "wakelog/blocking/made.py"), "-"]
        done = subprocess.run([*ruff, *named], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        text = done.stdout
    return text


def source_of(module: Module) -> str:
    """The source of the blocking module, as it must be."""
    return Maker(module).made()


def main() -> None:
    for module in MODULES:
        module.path.write_text(source_of(module), "utf-8")


if __name__ == "__main__":
    main()
