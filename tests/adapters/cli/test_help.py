"""`wakelog --help` names every command, and is printed at once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.adapters.cli.command_line import CommandLine

COMMANDS = (
    *("demo", "worker", "send", "add", "flush", "start", "stop", "terminate", "enqueue"),
    *("trigger", "retry", "clear", "pause", "resume", "pauses"),
    *("status", "state", "history", "ls", "count", "workers", "migrate", "doctor"),
)
HEAVY = ("wakelog", "pydantic", "eventsourcing", "sqlite3", "rich", "asyncio")


def test_help_names_commands_exit_codes_and_environment(wakelog: CommandLine) -> None:
    said = wakelog("--help").stdout
    for word in COMMANDS:
        assert re.search(rf"^  {word} ", said, re.M)
    codes = re.findall(r"^ +(\d+)  ", said, re.M)
    assert codes == ["0", "1", "2", "3", "4", "5", "130"]
    assert "WAKELOG_URL" in said
    assert "WAKELOG_JOBS" in said


@pytest.mark.parametrize("word", COMMANDS)
def test_each_command_explains_itself_and_knows_json(wakelog: CommandLine, word: str) -> None:
    result = wakelog(word, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_help_does_not_wait_for_heavy_imports() -> None:
    program = (
        "import sys\n"
        "from wakelog_adapters.cli import main\n"
        "sys.argv = ['wakelog', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    print('ended', end.code, *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    ended, code, *modules = done.stderr.split()
    assert (ended, code) == ("ended", "0"), done.stderr
    assert not set(HEAVY) & set(modules)
