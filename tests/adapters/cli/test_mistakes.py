"""A mistake on the command line gets a line or two, no traceback, and its own exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import CommandLine, process
from tests.adapters.cli.parcel_jobs import WEIGHED
from wakelog_adapters.cli.context import ECHO_S

SEND = ("send", "parcel", "p-1", WEIGHED)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, whose modules can be imported and are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


class TestJobs:
    @pytest.mark.parametrize(
        ("jobs", "said"),
        [
            ("nowhere:jobs", "there is no module 'nowhere'"),
            ("tests.nowhere:jobs", "there is no module 'tests.nowhere'"),
            ("cli_jobs.py:jobs", "there is no module 'cli_jobs.py': write it without .py"),
            (
                "./cli_jobs:jobs",
                "'./cli_jobs' is a path: write the module's name, as in orders:jobs",
            ),
            ("src/cli_jobs.py:jobs", "'src/cli_jobs.py' is a path: write the module's name"),
            ("/srv/cli_jobs:jobs", "'/srv/cli_jobs' is a path: write the module's name"),
            ("..cli_jobs:jobs", "'..cli_jobs' is a path: write the module's name"),
            ("jobs", "write MODULE:NAME, as in orders:jobs"),
            (":jobs", "write MODULE:NAME, as in orders:jobs"),
            ("json:jobs", "json has no 'jobs'; it needs a line such as: jobs = Jobs(order=order)"),
            ("tests.adapters.cli.parcel_jobs:job", "its jobs: tests.adapters.cli.parcel_jobs:jobs"),
            (
                "tests.adapters.cli.parcel_jobs:a_number",
                "is of type int, not Jobs; its jobs: tests.",
            ),
            (
                "tests.adapters.cli.parcel_jobs:parcel",
                "is of type Task, not Jobs; its jobs: tests.",
            ),
        ],
    )
    def test_that_are_not_there(self, wakelog: CommandLine, jobs: str, said: str) -> None:
        for command in (SEND, ("worker", jobs), ("state", "parcel", "p-1")):
            words = command if command[0] == "worker" else (*command, "--jobs", jobs)
            message = wakelog.refusal(2, *words)
            assert said in message
            assert message.count("\n") == 1

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            (
                "import not_installed",
                "No module named 'not_installed' (",
            ),
            ("\n\n1 / 0", "ZeroDivisionError: division by zero ("),
            ("def", "SyntaxError: invalid syntax"),
            ("raise SystemExit(3)", "SystemExit: 3 ("),
        ],
    )
    def test_that_cannot_be_imported(
        self, wakelog: CommandLine, here: Path, source: str, said: str
    ) -> None:
        (here / "broken_jobs.py").write_text(source)
        message = wakelog.refusal(2, *SEND, "--jobs", "broken_jobs:jobs")
        assert message.startswith("Error: broken_jobs cannot be imported: ")
        assert said in message
        assert "-c 'import broken_jobs'" in message
        if "(" in said:
            assert f"broken_jobs.py, line {source.count(chr(10)) + 1})" in message

    def test_in_another_folder_are_said_to_be_looked_for_in_this_one(
        self, wakelog: CommandLine, here: Path
    ) -> None:
        said = wakelog.refusal(2, "worker", "orders:jobs")
        assert said == f"Error: there is no module 'orders' in {here}, or on the path\n"

    def test_are_found_in_the_current_folder(self, wakelog: CommandLine, here: Path) -> None:
        (here / "local_jobs.py").write_text(
            "from tests.adapters.cli.parcel_jobs import jobs as mine"
        )
        assert wakelog.answer(*SEND, "--jobs", "local_jobs:mine")["created"]

    @pytest.mark.parametrize("words", [SEND, ("worker",), ("trigger", "parcel", "p-1")], ids=str)
    def test_in_a_folder_that_is_gone(
        self,
        wakelog: CommandLine,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        words: tuple[str, ...],
    ) -> None:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        said = wakelog.refusal(2, *words)
        assert said.startswith("Error: the current folder cannot be read (No such file")

    def test_that_are_not_named(self, sqlite_url: str) -> None:
        said = CommandLine(sqlite_url, jobs="").refusal(2, *SEND)
        assert "give --jobs orders:jobs, or set WAKELOG_JOBS" in said

    def test_that_are_none(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(2, "worker", "tests.adapters.cli.parcel_jobs:nothing")
        assert "has no jobs" in said

    def test_an_unknown_name(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(2, "send", "letter", "p-1", WEIGHED)
        assert "no job is registered as 'letter' (registered: parcel, truck)" in said
        wakelog("send", "parcel", "p-1", WEIGHED)
        for command in ("status", "history", "ls"):
            words = ("--name", "letter") if command == "ls" else ("letter", "p-1")
            jobs = ("--jobs", wakelog.env["WAKELOG_JOBS"])
            assert "'letter'" in wakelog.refusal(2, command, *words, *jobs)
        assert "'letter'" in wakelog.refusal(2, "worker", "--only", "letter")


class TestIds:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("parcel",), "write 'order o-17' or the whole id 'task:order:o-17'"),
            (("parcel:p-1",), "must read type:name:id"),
            (("taks:parcel:p-1",), "'taks' is not a type of job"),
            (("parcel", ""), "must have 1 to 255 characters"),
            (("parcel", "x" * 256), "must have 1 to 255 characters"),
            (("parcel", "a\nb"), "control characters"),
            (("task:parcel:p-1", "p-1"), "too much after the whole id task:parcel:p-1"),
        ],
    )
    def test_that_cannot_be_one(
        self, wakelog: CommandLine, words: tuple[str, ...], said: str
    ) -> None:
        wakelog(*SEND)
        for command in ("status", "state", "history", "trigger", "clear"):
            assert said in wakelog.refusal(2, command, *words)


class TestStores:
    @pytest.mark.parametrize("command", ["status", "state", "history", "trigger", "clear"])
    def test_that_are_not_named(self, command: str) -> None:
        said = CommandLine("").refusal(2, command, "parcel", "p-1")
        assert "give --url sqlite:///orders.db, or set WAKELOG_URL" in said

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("redis://localhost", "unknown_scheme"),
            ("orders.db", "unknown_scheme"),
            ("sqlite://orders.db", "three slashes come before a path"),
            ("sqlite:///orders.db?mode=ro", "unknown option"),
        ],
    )
    def test_whose_url_cannot_be_one(self, wakelog: CommandLine, url: str, said: str) -> None:
        for words in (SEND, ("status", "parcel", "p-1"), ("ls",), ("worker",)):
            assert said in wakelog.refusal(2, *words, "--url", url)

    def test_that_are_not_there_are_not_made_by_looking(
        self, wakelog: CommandLine, tmp_path: Path
    ) -> None:
        for command in ("status", "state", "history", "trigger", "clear"):
            assert "there is no file" in wakelog.refusal(3, command, "parcel", "p-1")
        assert "there is no file" in wakelog.refusal(3, "ls")
        assert list(tmp_path.iterdir()) == []

    def test_that_cannot_be_used(self, wakelog: CommandLine, tmp_path: Path) -> None:
        (tmp_path / "jobs.db").write_text("this is a letter to the editor, not a database" * 20)
        for words in (SEND, ("ls",), ("worker",)):
            assert "not_a_database" in wakelog.refusal(3, *words)

    def test_in_memory_come_with_a_warning(
        self, wakelog: CommandLine, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert wakelog.answer(*SEND, "--url", "memory://")["created"]
        assert "seen by this process only" in caplog.text


class TestPayloads:
    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ('{"kind": "weig', "is not JSON: EOF while parsing a string at line 1 column 14"),
            ("hello", "is not JSON: expected value at line 1 column 1; a text is '\"hello\"'\n"),
            (
                "it's",
                "is not JSON: expected value at line 1 column 1; a text is '\"it'\"'\"'s\"'\n",
            ),
            ("{'kind': 'lost'}", "is not JSON: key must be a string at line 1 column 2\n"),
            ("", "is not JSON"),
            ("[" * 5_000, "is not JSON: recursion limit exceeded"),
            ("@nowhere.json", "file 'nowhere.json' cannot be read: No such file or directory"),
            ("@/", "file '/' cannot be read: Is a directory"),
            ("\udcff", "is not UTF-8 text"),
        ],
    )
    def test_that_are_no_json(self, wakelog: CommandLine, payload: str, said: str) -> None:
        assert said in wakelog.refusal(2, "send", "parcel", "p-1", payload)

    def test_that_are_no_event_have_each_issue_listed(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(1, "send", "parcel", "p-1", '{"kind": "weighed", "grams": "x"}')
        assert said.splitlines()[0] == "Error: event of 'parcel' is not valid:"
        issues = [line.split(":")[0].strip() for line in said.splitlines()[1:]]
        assert issues == ["Weighed.grams", "Lost.kind", "Lost.why"]

    def test_without_one_the_event_is_null(self, wakelog: CommandLine) -> None:
        said = wakelog.refusal(1, "send", "parcel", "p-1")
        assert "Weighed: Input should be" in said


class TestTimes:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--delay", "soon"), "--delay 'soon' is not valid: expected a text such as '90s'"),
            (("--delay=-5s",), "--delay '-5s' is not valid"),
            (("--delay=-5",), "must not be negative"),
            (("--delay", "inf"), "--delay 'inf' is not valid"),
            (("--at", "2026-01-31T09:00:00"), "has no time zone"),
            (("--at", "tomorrow"), "is not a time: write it as 2026-01-31T09:00:00Z"),
            (("--timeout", "x"), "--timeout 'x' is not valid"),
        ],
    )
    def test_that_are_none(self, wakelog: CommandLine, options: tuple[str, ...], said: str) -> None:
        assert said in wakelog.refusal(2, *SEND, *options)

    def test_delay_and_at_together_are_refused(self, wakelog: CommandLine) -> None:
        both = ("--delay", "1s", "--at", "2999-01-31T09:00:00Z")
        assert "not both" in wakelog.refusal(1, *SEND, *both)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ls", "--status", "faild"), "--status 'faild' is none of active, debouncing, failed"),
        (("ls", "--type", "tusk"), "'tusk' is not a type of job"),
        (("ls", "--limit", "0"), "--limit"),
        (("ls", "--due-before", "soon"), "--due-before 'soon' is not a time"),
        (("history", "parcel", "p-1", "--at", "2026-01-01T00:00:00Z", "--life", "1"), "--life"),
        (("history", "parcel", "p-1", "--version", "-1"), "--version"),
        (("worker", "--log-level", "loud"), "--log-level 'loud' is none of debug, info"),
        (("worker", "--lease", "soon"), "--lease 'soon' is not valid"),
        (("worker", "--concurrency", "0"), "--concurrency"),
        (("wait",), "No such command 'wait'"),
        (("send",), "Missing argument"),
    ],
)
def test_options_that_make_no_sense(
    wakelog: CommandLine, words: tuple[str, ...], said: str
) -> None:
    wakelog(*SEND)
    assert said in wakelog.refusal(2, *words)


@pytest.mark.parametrize("words", [("parcel", "-5", WEIGHED), ("parcel", "p-1", "-7.5")])
def test_what_begins_with_a_dash_is_shown_its_place(
    wakelog: CommandLine, words: tuple[str, ...]
) -> None:
    said = wakelog.refusal(2, "send", *words)
    assert said.endswith(
        "write words that begin with - after --, as in: wakelog add -- edits -5 -1\n"
    )
    assert json.loads(wakelog("send", "--json", "--", "parcel", "-5", WEIGHED).stdout)["created"]
    assert "--" not in wakelog.refusal(2, "send", "parcel", "-x").split("Error:")[1]


def test_a_handler_that_fails_ends_with_4(wakelog: CommandLine) -> None:
    said = wakelog.refusal(4, "send", "parcel", "p-1", '{"kind": "lost", "why": "no address"}')
    assert said.splitlines()[-1] == (
        "Error: on_event of task:parcel:p-1 failed: LookupError: no address"
    )


def test_an_interrupt_ends_with_130_and_takes_nothing_back(
    wakelog: CommandLine, tmp_path: Path
) -> None:
    words = (*SEND, "--defer", "--wait")
    with process(*words, cwd=tmp_path, env=wakelog.env) as send:
        send.log_line("no living worker knows task:parcel")
        send.popen.send_signal(signal.SIGINT)
        code, stdout, stderr = send.end()
    assert (code, stdout, stderr) == (130, "", "Error: interrupted\n")
    assert wakelog.answer("status", "parcel", "p-1")["deferred_count"] == 1


INTERRUPTED_IMPORT = """
import sys, types
class Commands(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt
sys.modules["wakelog_adapters.cli.commands"] = Commands("commands")
from wakelog_adapters.cli import main
main()
"""


def test_an_interrupt_while_modules_are_imported_ends_with_130() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "Error: interrupted\n"


def test_an_interrupt_that_comes_many_times_at_once_counts_once(
    wakelog: CommandLine, tmp_path: Path
) -> None:
    """As `timeout` and its like send it: to a process, and to its group."""
    env = {**wakelog.env, "PYTHONWARNINGS": "error"}
    with process(*SEND, "--defer", "--wait", cwd=tmp_path, env=env) as send:
        send.log_line("no living worker knows task:parcel")
        until_s = time.monotonic() + ECHO_S / 2
        while send.popen.poll() is None and time.monotonic() < until_s:
            send.popen.send_signal(signal.SIGINT)
        code, *said = send.end()
    assert said == ["", "Error: interrupted\n"]
    assert code in (130, -signal.SIGINT)  # the latter if one comes when Python is at its end


def test_who_waits_for_a_server_is_told_what_for_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql:///x?host={tmp_path}&timeout=0.1&wait=0.5"
    assert "unreachable" in CommandLine(url).refusal(3, "ls")
    [record] = caplog.records
    assert record.name == "wakelog.postgres"
    assert record.getMessage().startswith("waiting for 0.5 s at most: store unavailable")
