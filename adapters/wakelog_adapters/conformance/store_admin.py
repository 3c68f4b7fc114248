"""The exam that every store's admin passes: subclass `StoreAdminExam`, name your store, run pytest.

    class TestMyAdmin(StoreAdminExam):
        def url(self, folder: Path) -> str:
            return f"mystore://{folder}"

        def run_script(self, url: str, script: str) -> None:
            subprocess.run(["mysql", ...], input=script, check=True)

Store and admin are opened through their entry points.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from wakelog.clock import SystemClock
from wakelog.errors import StoreUnavailableError
from wakelog.jobs import open_store
from wakelog.ports.pools import PoolWrites
from wakelog.ports.store import Store
from wakelog_adapters.conformance.pool.units import POOL, call, document, excepted, pool_event
from wakelog_adapters.conformance.units import UnitBuilder, in_parallel
from wakelog_adapters.sql.admin import Finding, Migration, StoreAdmin, store_admin

__all__ = ["StoreAdminExam"]

HOUR_US = 3_600_000_000
AT_ONCE = 4
"""How many migrate at the same time."""


def later(admin: StoreAdmin, *, compatible_since: int, sql: str = "SELECT 1;\n") -> Migration:
    """A migration of a newer package; `compatible_since` is relative to the newest known here."""
    newest = admin.migrations[-1].number
    return Migration(newest + 1, "later", newest + compatible_since, sql)


def reason_of_refusal(call: Callable[[], object]) -> str | None:
    """Why the store refuses a call; None if it does not."""
    try:
        call()
    except StoreUnavailableError as error:
        return error.reason
    return None


class StoreAdminExam:
    """What is promised of `wakelog_adapters.sql.admin.StoreAdmin`, as tests."""

    known_problems: frozenset[str] = frozenset()
    """Checks that find a problem wherever this exam runs, whatever is in the store."""

    def url(self, folder: Path) -> str:
        """The one store that belongs to `folder`, which is not there yet."""
        raise NotImplementedError

    def run_script(self, url: str, script: str) -> None:
        """Run SQL on the store's database as its owner would by hand; stop at the first error."""
        raise NotImplementedError

    def admin(self, folder: Path) -> StoreAdmin:
        return store_admin(self.url(folder))

    @contextmanager
    def opened(self, folder: Path) -> Generator[Store]:
        with closing(open_store(self.url(folder))) as factory:
            yield factory.application_recorder()

    def check(self, folder: Path) -> Mapping[str, Finding]:
        """The findings of a health check by their names, without the known problems."""
        findings = list(self.admin(folder).check_health(SystemClock()))
        assert all((each.level == "ok") is (each.advice is None) for each in findings)
        assert all(each.text for each in findings)
        return {each.check: each for each in findings if each.check not in self.known_problems}

    def problems(self, folder: Path) -> Sequence[str]:
        return [name for name, each in self.check(folder).items() if each.level == "problem"]

    def append_one(self, store: Store, id: str = "o-1") -> None:
        assert store.append([UnitBuilder(id).begin()]).errors == [None]

    # -- a store that is not there yet

    def test_migrations_are_numbered_and_say_what_may_work_on_them(self, tmp_path: Path) -> None:
        known = self.admin(tmp_path).migrations
        assert [each.number for each in known] == list(range(1, len(known) + 1))
        assert all(1 <= each.compatible_since <= each.number for each in known)

    def test_without_a_store_everything_is_missing(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        for _ in range(2):  # the first look makes nothing
            version = admin.schema_version()
            assert (version.number, version.is_too_new) == (0, False)
            assert list(version.missing) == list(admin.migrations)

    def test_a_script_or_a_health_check_makes_nothing(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        assert admin.script(admin.migrations)

        def check() -> None:
            assert "schema" in self.problems(tmp_path)

        assert reason_of_refusal(check) in (None, "unreachable")  # a file that is not there
        assert admin.schema_version().number == 0

    # -- migrating

    def test_migrating_applies_what_is_missing_and_then_nothing(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        assert list(admin.migrate()) == list(admin.migrations)
        assert list(admin.migrate()) == []
        version = admin.schema_version()
        assert (list(version.missing), version.number) == ([], version.newest)
        with self.opened(tmp_path) as store:
            self.append_one(store)

    def test_opening_a_store_applies_the_same(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            admin = self.admin(tmp_path)
            assert list(admin.schema_version().missing) == []
            assert list(admin.migrate()) == []
            self.append_one(store)

    def test_of_several_that_migrate_at_once_one_does(self, tmp_path: Path) -> None:
        applied: list[Migration] = []
        errors: list[Exception] = []
        start = threading.Barrier(AT_ONCE)

        def migrate() -> None:
            admin = self.admin(tmp_path)
            start.wait()
            try:
                applied.extend(admin.migrate())
            except Exception as error:
                errors.append(error)

        in_parallel([threading.Thread(target=migrate) for _ in range(AT_ONCE)])
        assert errors == []
        assert applied == list(self.admin(tmp_path).migrations)

    # -- scripts

    def test_a_script_that_is_run_by_hand_does_what_migrating_does(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        self.run_script(self.url(tmp_path), admin.script(admin.schema_version().missing))
        version = admin.schema_version()
        assert (list(version.missing), version.is_too_new) == ([], False)
        assert list(admin.migrate()) == []
        with self.opened(tmp_path) as store:
            self.append_one(store)
        assert self.problems(tmp_path) == []

    def test_a_script_that_fails_leaves_the_store_as_it_was(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        number = len(admin.migrate())
        broken = "CREATE TABLE half_made (x INTEGER);\nSELECT * FROM there_is_no_such_table;\n"
        script = admin.script([later(admin, compatible_since=0, sql=broken)])
        for _ in range(2):  # the second gets as far as the first: no table was left behind
            messages: list[str] = []
            try:
                self.run_script(self.url(tmp_path), script)
            except Exception as error:
                messages.append(str(error))
            assert any("there_is_no_such_table" in message for message in messages)
        assert admin.schema_version().number == number
        assert self.problems(tmp_path) == []

    # -- health

    def test_a_pool_is_no_damage(self, tmp_path: Path) -> None:
        """Its streams have events, and leases that may have ended long ago, but no status row."""
        with self.opened(tmp_path) as store:
            store.append([UnitBuilder().begin(at_us=SystemClock().now_us())])
            before = self.check(tmp_path)
            event = pool_event(1, b"item")
            leases = [(f"{POOL}:{n}", "w1", 1, lasts) for n, lasts in enumerate((1, -HOUR_US))]
            writes = PoolWrites(
                events=[event], state=document(), put=[excepted(1, 1, "dead")], leases=leases
            )
            call(store, writes, now_us=SystemClock().now_us())
            assert store.events(event.stream) == [event]
        found = self.check(tmp_path)
        changed = {name for name, each in found.items() if each != before[name]}
        assert changed <= {"leases", "disk", "pools"}  # no engine has written this document
        assert found["leases"].level == "ok"
        assert found["leases"].text.startswith("2 leases")

    def test_a_new_store_has_no_problem(self, tmp_path: Path) -> None:
        self.admin(tmp_path).migrate()
        found = self.check(tmp_path)
        assert {each.level for each in found.values()} == {"ok"}
        assert found.keys() >= {"schema", "workers", "due", "leases", "stranded", "failed"}

    def test_work_that_no_worker_takes_is_a_problem(self, tmp_path: Path) -> None:
        now_us = SystemClock().now_us()
        with self.opened(tmp_path) as store:
            due = UnitBuilder().begin(now_us - HOUR_US, at_us=now_us - HOUR_US)
            assert store.append([due]).errors == [None]
            assert self.problems(tmp_path) == ["due"]
            assert "1 instance of task:order" in self.check(tmp_path)["due"].text

    def test_a_health_check_changes_nothing(self, tmp_path: Path) -> None:
        admin, builder = self.admin(tmp_path), UnitBuilder()
        with self.opened(tmp_path) as store:
            assert store.append([builder.begin(SystemClock().now_us() - HOUR_US)]).errors == [None]
            before = store.status([builder.stream]), store.events(builder.stream)
            version = admin.schema_version()
            assert self.problems(tmp_path) == self.problems(tmp_path) == ["due"]
            assert (store.status([builder.stream]), store.events(builder.stream)) == before
            assert admin.schema_version() == version
            assert store.append([builder.receive()]).errors == [None]

    # -- newer schemas

    def test_a_newer_schema_that_is_compatible_is_worked_on(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        admin.migrate()
        step = later(admin, compatible_since=0)
        self.run_script(self.url(tmp_path), admin.script([step]))
        version = admin.schema_version()
        assert (version.number, list(version.missing)) == (step.number, [])
        assert not version.is_too_new
        assert list(admin.migrate()) == []
        assert self.check(tmp_path)["schema"].level == "warning"
        with self.opened(tmp_path) as store:
            self.append_one(store)

    def test_a_schema_that_is_too_new_is_left_alone(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        admin.migrate()
        self.run_script(self.url(tmp_path), admin.script([later(admin, compatible_since=1)]))
        version = admin.schema_version()
        assert version.is_too_new
        for refused in (version.check, admin.migrate, lambda: open_store(self.url(tmp_path))):
            assert reason_of_refusal(refused) == "wrong_version"
        found = self.check(tmp_path)
        assert found["schema"].level == "problem"
        assert "workers" not in found  # its tables may have changed
        assert admin.schema_version() == version

    # -- schemas of builds between releases, whose migrations were changed in place

    def test_a_schema_that_another_build_has_made_is_left_alone(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        first = admin.migrations[0]
        other = first._replace(sql="CREATE TABLE {t}of_another_build (x INTEGER);\n")
        self.run_script(self.url(tmp_path), admin.script([other]))
        version = admin.schema_version()
        assert version.changed == [first]
        for refused in (version.check, admin.migrate, lambda: open_store(self.url(tmp_path))):
            assert reason_of_refusal(refused) == "wrong_version"
        found = self.check(tmp_path)
        assert found["schema"].level == "problem"
        assert "workers" not in found
        assert admin.schema_version() == version

    def test_what_is_said_in_a_migration_may_change(self, tmp_path: Path) -> None:
        admin = self.admin(tmp_path)
        first, *others = admin.migrations
        said = first._replace(sql=f"-- another comment\n\n  {first.sql}")
        self.run_script(self.url(tmp_path), admin.script([said, *others]))
        assert admin.schema_version().changed == []
        with self.opened(tmp_path) as store:
            self.append_one(store)
