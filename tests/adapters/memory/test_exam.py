"""The memory store passes the exam."""

from __future__ import annotations

from pathlib import Path

import pytest

from wakelog.errors import ValidationError
from wakelog.ports.store import Store
from wakelog_adapters.conformance import StoreExam, UnitBuilder
from wakelog_adapters.memory import open_store


class TestMemory(StoreExam):
    def make_store(self, folder: Path) -> Store:
        return open_store(f"memory://{folder}").application_recorder()


def test_a_store_without_a_name_is_not_shared() -> None:
    one, two = (open_store("memory://").application_recorder() for _ in range(2))
    builder = UnitBuilder()
    one.append([builder.begin()])
    assert two.status([builder.stream]) == [None]


def test_a_store_in_memory_has_no_options() -> None:
    with pytest.raises(ValidationError, match="no options"):
        open_store("memory://?timeout=5")
