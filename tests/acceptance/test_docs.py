"""The documentation cannot rot: what it shows is run, what it prints is compared.

A block fenced as `python run` is run, all of one page in order and together, in a folder of its
own. A block fenced as `text output` is what the block before it prints; a `…` in it stands for
anything on one line (a time, a hash). A block fenced as `python` is a fragment and must parse.
"""

from __future__ import annotations

import ast
import code
import inspect
import io
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.acceptance.pages import PAGES, ROOT, blocks, pairs, prose
from wakelog import DebounceContext, Jobs, TaskContext, WorkerPoolContext, errors
from wakelog.client.worker_pool import WorkerPoolClient
from wakelog.core.events import EVENTS
from wakelog_adapters.cli.commands import app

LINK = re.compile(r"\]\((?!https?:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
README_LINES = 15
"""The first example of the README stays under this."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """What links into a page may name: its headings, as a renderer turns them into anchors."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def pattern(expected: str) -> re.Pattern[str]:
    """What is expected, with `…` for anything on one line."""
    return re.compile("[^\n]*".join(map(re.escape, expected.rstrip().split("…"))))


@every_page
def test_what_a_page_shows_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block, output in pairs(page):
        padded = "\n" * (block.line - 1) + block.text
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(padded, str(page), "exec", dont_inherit=True), names)
        if output is not None:
            said = printed.getvalue().rstrip()
            assert pattern(output.text).fullmatch(said), f"{page.name}:{output.line}: {said}"


def test_E3_what_the_page_of_embedding_shows_is_in_the_examples_that_are_run() -> None:
    examples = [path.read_text("utf-8") for path in (ROOT / "examples/embedding").rglob("*.py")]
    shown = [block for block in blocks(ROOT / "docs/embedding.md") if block.info == "python"]
    assert len(shown) >= 8
    for block in shown:
        assert any(block.text in text for text in examples), f"embedding.md:{block.line}"


@every_page
def test_fragments_parse_and_outputs_belong_to_what_is_run(page: Path) -> None:
    known = {"python run", "python", "text output", "text", "sh", "sql", "json", "toml"}
    before = ""
    for block in blocks(page):
        assert block.info in known, f"{page.name}:{block.line}"
        if block.info == "python":
            assert ast.parse(block.text).body
        if block.info == "text output":
            assert before == "python run", f"{page.name}:{block.line}"
        before = block.info


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(prose(page)):
        target = page.parent / found["file"] if found["file"] else page
        assert target.exists(), found[0]
        if found["anchor"]:
            assert found["anchor"] in anchors(target), found[0]


@every_page
def test_no_page_promises_more_than_can_be_kept(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    assert "exactly once" not in text
    assert "exactly-once" not in text


def test_every_page_is_on_the_map() -> None:
    linked = {found["file"] for found in LINK.finditer(prose(ROOT / "docs" / "index.md"))}
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"index.md"} <= linked


def test_the_first_example_is_short_and_can_be_typed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = blocks(ROOT / "README.md")[0]
    assert first.info == "python run"
    lines = first.text.rstrip().splitlines()
    assert len(lines) < README_LINES
    console = code.InteractiveConsole({"__name__": "__main__"})
    printed, complaints = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(complaints):
        for line in [*lines, ""]:
            console.push(line)
    assert complaints.getvalue() == ""
    assert 'received event "placed"' in printed.getvalue()


def test_the_command_of_the_readme_works_on_its_first_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the example as a module, run once
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    Path("orders.py").write_text(blocks(ROOT / "README.md")[0].text, encoding="utf-8")
    command = re.search(r"^wakelog (worker orders:jobs --url (\S+))$", text, re.MULTILINE)
    assert command is not None
    example = subprocess.run([sys.executable, "orders.py"], capture_output=True, check=True)
    assert b'received event "placed"' in example.stdout
    # when the command of the page runs
    wakelog = [sys.executable, "-m", "wakelog_adapters.cli", *command[1].split(), "--json"]
    with subprocess.Popen(wakelog, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline()  # it says that it works
        finally:
            worker.terminate()
        assert worker.wait(20) == 0
    # then it knew the job, and sent nothing again
    shown = subprocess.run(
        [*wakelog[:3], "history", "task:order:o-17", "--url", command[2], "--json"],
        capture_output=True,
        check=True,
    )
    assert shown.stdout.count(b'"EventReceived"') == 1


def test_the_readme_installs_the_wheel_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"wakelog-\S+\.whl", text) == [
        f"wakelog-{project['version']}-py3-none-any.whl"
    ]


def test_the_page_on_errors_names_every_error() -> None:
    text = prose(ROOT / "docs" / "errors.md")
    classes = [name for name in errors.__all__ if name != "Issue"]
    assert [name for name in classes if f"`{name}`" not in text] == []


def test_the_page_on_the_log_names_every_event_and_every_field() -> None:
    text = prose(ROOT / "docs" / "log-format.md")
    rows = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}
    for topic, event in EVENTS.items():
        row = rows[topic.removeprefix("wakelog.")]
        fields = set(event.__struct_fields__) - {"item"}  # of every event, and said above the table
        assert [field for field in fields if f"`{field}`" not in row] == [], topic
    assert "`item`" in text


def test_the_guide_to_tasks_names_every_member_of_the_context() -> None:
    text = prose(ROOT / "docs" / "tasks.md")
    inside = {"cleared", "clear_reason", "close", "commands", "is_open", "returned"}
    inside |= {"read_batch", "read_state", "targets", "application"}
    members = {name for name in dir(TaskContext) if not name.startswith("_")} - inside
    assert [name for name in sorted(members) if f"`{name}" not in text] == []


def test_the_guide_to_debounces_names_every_member_of_the_context() -> None:
    text = prose(ROOT / "docs" / "debounce.md")
    inside = {"cleared", "clear_reason", "close", "commands", "is_open", "returned"}
    inside |= {"read_batch", "read_state", "targets", "application"}
    members = {name for name in dir(DebounceContext) if not name.startswith("_")} - inside
    assert [name for name in sorted(members) if f"`{name}" not in text] == []


def test_the_guide_to_worker_pools_names_every_member_of_the_context_and_of_the_client() -> None:
    text = prose(ROOT / "docs" / "worker_pool.md")
    inside = {"cleared", "clear", "clear_reason", "close", "commands", "is_open", "returned"}
    inside |= {"read_batch", "read_state", "result_schema", "targets", "application"}
    inside |= {"state", "error_source"}
    members = {name for name in dir(WorkerPoolContext) if not name.startswith("_")} - inside
    members |= {name for name in vars(WorkerPoolClient) if not name.startswith("_")} - {"name"}
    assert [name for name in sorted(members) if f"`{name}" not in text] == []


def test_the_page_on_operations_names_every_setting_with_its_default() -> None:
    text = prose(ROOT / "docs" / "operations.md")
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| `")]
    shown = {row[1].strip(" `"): row[2].strip(" `") for row in rows}
    settings = inspect.signature(Jobs.open).parameters
    for name, setting in settings.items():
        if setting.kind is inspect.Parameter.KEYWORD_ONLY:
            default = "all" if setting.default == () else repr(setting.default).replace("'", '"')
            assert shown[name].replace(",", "") == default, name


def test_the_page_on_operations_names_every_command() -> None:
    text = prose(ROOT / "docs" / "operations.md")
    groups = {"": app} | {f"{each.name} ": each.typer_instance for each in app.registered_groups}
    commands = [
        group + str(c.name or getattr(c.callback, "__name__", "")).replace("_", "-")
        for group, each in groups.items()
        if each is not None
        for c in each.registered_commands
    ]
    assert len(commands) > len(app.registered_commands)
    assert [name for name in commands if f"`wakelog {name}" not in text] == []
