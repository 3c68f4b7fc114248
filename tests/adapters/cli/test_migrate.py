"""`wakelog migrate`, and what a schema may be when a store is opened on it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.support_postgres import bare_connection, with_options
from wakelog.errors import StoreUnavailableError, ValidationError
from wakelog.jobs import open_store
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.postgres import connections as postgres_connections
from wakelog_adapters.postgres import schema as postgres_schema
from wakelog_adapters.postgres.url import parse as parse_postgres
from wakelog_adapters.sql.admin import Migration, store_admin
from wakelog_adapters.sql.migrations import read
from wakelog_adapters.sqlite import connections as sqlite_connections
from wakelog_adapters.sqlite import schema as sqlite_schema
from wakelog_adapters.sqlite.url import parse as parse_sqlite

INITIAL = "0001_initial"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A store that is not there yet, of each kind that has a schema."""
    name: str = request.getfixturevalue(f"{request.param}_url")
    return name


@pytest.fixture
def wakelog(url: str) -> CommandLine:
    return CommandLine(url)


def add_option(url: str, option: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{option}"


def by_hand(url: str, script: str) -> None:
    """Run SQL as a person would who owns the database."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(parse_sqlite(url).path)) as connection:
            connection.executescript(script)
    else:
        with bare_connection(url) as connection:
            connection.execute(script.encode())


def migrate_further(url: str, later: Migration) -> None:
    """What a newer wakelog does, which knows a migration more."""
    if url.startswith("sqlite"):
        file = parse_sqlite(url)
        in_file = sqlite_schema.SQLiteSchema(file, [*sqlite_schema.migrations(), later])
        with closing(sqlite_connections.connect(file)) as connection:
            assert list(in_file.migrate(connection)) == [later]
    else:
        server = parse_postgres(url)
        on_server = postgres_schema.PostgresSchema(server, [*postgres_schema.migrations(), later])
        with closing(postgres_connections.connect(server)) as other:
            assert list(on_server.migrate(other)) == [later]


def later(url: str, compatible_since: int) -> Migration:
    table = "{prefix}status" if url.startswith("sqlite") else "{schema}.status"
    number = store_admin(url).migrations[-1].number + 1
    return Migration(
        number, "later", compatible_since, f"ALTER TABLE {table} ADD COLUMN more text;"
    )


def newest(url: str) -> int:
    return store_admin(url).migrations[-1].number


# -- the command


def test_says_what_is_missing_applies_it_and_says_so(wakelog: CommandLine, url: str) -> None:
    before = wakelog("migrate", "--check", "--json")
    assert before.exit_code == 1
    assert json.loads(before.stdout)["missing"][0] == INITIAL
    assert not store_admin(url).schema_version().number  # nothing was changed
    applied = wakelog.answer("migrate")
    assert applied["applied"] == [str(each) for each in store_admin(url).migrations]
    assert (applied["up_to_date"], applied["missing"]) == (True, [])
    assert wakelog("migrate", "--check").exit_code == 0
    assert wakelog.answer("migrate")["applied"] == []
    assert "up to date, at migration" in wakelog("migrate").stdout


def test_the_store_is_named_as_elsewhere_or_as_an_argument(url: str) -> None:
    for words in ((url,), ("--url", url)):
        assert CommandLine("").refusal(2, "migrate").count("--url") == 1
        assert CommandLine("").answer("migrate", *words)["up_to_date"]


def test_what_is_printed_can_be_run_by_hand(wakelog: CommandLine, url: str) -> None:
    printed = wakelog("migrate", "--print")
    assert printed.exit_code == 0
    assert not store_admin(url).schema_version().number
    by_hand(url, printed.stdout)
    assert wakelog("migrate", "--check").exit_code == 0
    with closing(open_store(add_option(url, "migrate=off"))) as factory:
        assert factory.application_recorder().append([UnitBuilder().begin()]).errors == [None]
    assert wakelog("migrate", "--print").stdout == "-- nothing is missing\n"


def test_without_a_server_all_there_is_is_printed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql://{tmp_path.name}@/x?host={tmp_path}&schema=mine"
    said = CommandLine(url).answer("migrate", "--print")
    assert said["missing"] == [str(each) for each in postgres_schema.migrations()]
    assert "CREATE FUNCTION mine.append_1" in said["sql"]
    assert "the store cannot be reached" in caplog.text
    assert "unreachable" in CommandLine(url).refusal(3, "migrate", "--check")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--check", "--print"), "--check and --print do not go together"),
        (("memory://",), "memory:// has no schema (expected postgres://"),
        (("nonsense",), "this is not a URL"),
        (("sqlite://",), "names no file"),
        (("sqlite:///x?migrate=maybe",), "migrate must be on"),
        (("postgresql://h/d?migrate=maybe",), "migrate must be on"),
    ],
)
def test_mistakes(wakelog: CommandLine, words: tuple[str, ...], said: str) -> None:
    assert said in wakelog.refusal(2, "migrate", *words)


# -- opening


def test_opening_can_be_told_to_change_nothing(url: str) -> None:
    closed = add_option(url, "migrate=off")
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(closed)
    assert caught.value.reason == "wrong_version"
    assert INITIAL in caught.value.detail
    assert "wakelog migrate" in str(caught.value)
    assert not store_admin(url).schema_version().number
    store_admin(closed).migrate()
    open_store(closed).close()


OPEN = """
import sys
from wakelog.jobs import open_store
from wakelog_adapters.conformance import UnitBuilder
print("ready", flush=True)
sys.stdin.readline()
factory = open_store(sys.argv[1])
assert factory.application_recorder().append([UnitBuilder(sys.argv[2]).begin()]).errors == [None]
factory.close()
"""


def test_several_processes_may_open_what_is_not_there_yet(url: str) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, url, f"o-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        _, stderr = process.communicate()
        assert (process.returncode, stderr) == (0, "")
    with closing(open_store(url)) as factory:
        streams = [f"task:order:o-{number}" for number in range(4)]
        assert all(factory.application_recorder().status(streams))


# -- two versions side by side


def test_an_older_package_works_on_a_newer_schema_that_lets_it(
    wakelog: CommandLine, url: str
) -> None:
    with closing(open_store(url)) as factory:
        store, builder = factory.application_recorder(), UnitBuilder()
        assert store.append([builder.begin()]).errors == [None]
        migrate_further(url, later(url, newest(url)))  # while the older one has it open
        assert store.append([builder.receive(), UnitBuilder("o-2").begin()]).errors == [None, None]
    with closing(open_store(url)) as factory:  # and the older one comes again
        assert factory.application_recorder().append([builder.receive()]).errors == [None]
    stands = wakelog("migrate", "--check", "--json")
    assert stands.exit_code == 0
    said = json.loads(stands.stdout)
    assert (said["up_to_date"], said["migration"]) == (True, newest(url) + 1)
    assert "newer than this wakelog" in wakelog("migrate").stdout


def test_an_older_package_leaves_a_schema_alone_that_it_cannot_work_on(
    wakelog: CommandLine, url: str
) -> None:
    open_store(url).close()
    migrate_further(url, later(url, newest(url) + 1))
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(url)
    assert caught.value.reason == "wrong_version"
    for words in ((), ("--check",), ("--print",)):
        assert "wrong_version" in wakelog.refusal(3, "migrate", *words)


def test_each_migration_says_what_may_still_work_on_it(url: str) -> None:
    known = store_admin(url).migrations
    assert [each.number for each in known] == list(range(1, len(known) + 1))
    assert all(1 <= each.compatible_since <= each.number for each in known)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes a package with one migration of this text."""

    def make(text: str) -> str:
        folder = tmp_path / "with_migrations" / "migrations"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "0007_seventh.sql").write_text(text)
        return "with_migrations"

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    read.cache_clear()
    sys.modules.pop("with_migrations", None)


def test_a_migration_that_does_not_say_it_is_none(package: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match=r"0007_seventh.sql does not begin"):
        read(package("SELECT 1;\n"))


def test_a_migration_is_its_number_its_name_and_what_it_says(
    package: Callable[[str], str],
) -> None:
    [found] = read(package("-- compatible since: 5\nSELECT 1;\n"))
    assert found == Migration(7, "seventh", 5, "SELECT 1;\n")
    assert str(found) == "0007_seventh"


def test_urls_say_whether_opening_migrates(postgres_server: str) -> None:
    assert parse_postgres(postgres_server).migrate
    assert not parse_postgres(with_options(postgres_server, migrate="off")).migrate
    assert parse_sqlite("sqlite:///a.db").migrate
    assert not parse_sqlite("sqlite:///a.db?migrate=off").migrate
    with pytest.raises(ValidationError, match="migrate must be on"):
        parse_sqlite("sqlite:///a.db?migrate=")
