"""The exam of a store's kept replies."""

from __future__ import annotations

from pathlib import Path

from wakelog.core.events import Cleared
from wakelog.ports.units import KeyTaken, VersionConflict
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, UnitBuilder, kept_reply, kinds

__all__ = ["KeptRepliesExam"]


class KeptRepliesExam(ExamBase):
    """A key is used once until its reply expires or is forgotten."""

    def test_a_key_is_used_once(self, tmp_path: Path) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        store.append([builder.begin(kept_reply=kept_reply("k"))])
        group = [
            other.begin(kept_reply=kept_reply("k")),
            builder.fork().receive(kept_reply=kept_reply("k", body="2")),
        ]
        assert kinds(store.append(group)) == [None, KeyTaken]
        keys = [(builder.stream, "k"), (other.stream, "k"), (builder.stream, "no")]
        assert store.kept_replies(keys) == [kept_reply("k"), kept_reply("k"), None]
        assert store.kept_replies([]) == []
        twice = [
            builder.receive(kept_reply=kept_reply("l")),
            builder.receive(kept_reply=kept_reply("l")),
        ]
        assert kinds(store.append(twice)) == [None, KeyTaken]
        assert len(store.events(builder.stream)) == 3

    def test_a_reply_can_be_kept_for_what_never_was_an_instance(self, tmp_path: Path) -> None:
        store, builder, other = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        group = [builder.unit(kept_reply=kept_reply("k")), other.begin()]
        assert store.append(group).errors == [None, None]
        assert store.status([builder.stream]) == [None]
        assert store.kept_replies([(builder.stream, "k")]) == [kept_reply("k")]
        assert kinds(store.append([builder.unit(kept_reply=kept_reply("k"))])) == [KeyTaken]
        late = builder.fork()
        assert store.append([builder.begin(kept_reply=kept_reply("l"))]).errors == [None]
        assert kinds(store.append([late.unit(kept_reply=kept_reply("m"))])) == [VersionConflict]

    def test_an_expired_key_may_be_used_again(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(kept_reply=kept_reply("k", NOW + 5))])
        early = builder.fork().receive(at_us=NOW + 4, kept_reply=kept_reply("k", NOW + 9))
        assert kinds(store.append([early])) == [KeyTaken]
        late = builder.receive(at_us=NOW + 5, kept_reply=kept_reply("k", NOW + 9, "[2]"))
        assert store.append([late]).errors == [None]
        assert store.kept_replies([(builder.stream, "k")]) == [kept_reply("k", NOW + 9, "[2]")]

    def test_a_key_outlives_a_clear_and_can_be_forgotten(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(kept_reply=kept_reply("k")), builder.unit(Cleared())])
        assert kinds(store.append([builder.fork().begin(kept_reply=kept_reply("k"))])) == [KeyTaken]
        assert store.forget_key(builder.stream, "k") is True
        assert store.forget_key(builder.stream, "k") is False
        assert store.append([builder.begin(kept_reply=kept_reply("k"))]).errors == [None]

    def test_expired_replies_are_purged_in_portions(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        expiries = [NOW + 1, NOW + 2, NOW + 3, NOW + 9, None]
        first = builder.begin()
        units = [
            builder.receive(kept_reply=kept_reply(f"k{i}", at)) for i, at in enumerate(expiries)
        ]
        store.append([first, *units])
        assert store.purge_kept_replies(NOW, 10) == 0
        assert [store.purge_kept_replies(NOW + 3, 2) for _ in range(3)] == [2, 1, 0]
        left = store.kept_replies([(builder.stream, f"k{i}") for i in range(5)])
        assert [a is not None for a in left] == [False, False, False, True, True]
