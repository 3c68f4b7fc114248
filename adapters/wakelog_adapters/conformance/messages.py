"""The exam of a store's messages."""

from __future__ import annotations

from pathlib import Path

from wakelog.core.events import MessageSent
from wakelog.ports.messages import LEFT_US, Received
from wakelog.ports.units import AlreadyReceived, VersionConflict
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder, kinds

__all__ = ["MessagesExam"]

DUE = NOW + LEFT_US
OTHERS = "task:other"


def sent(to: str = "task:order:t", payload: str = "1") -> MessageSent:
    return MessageSent(to=to, payload=payload)


class MessagesExam(ExamBase):
    """What a unit sends is in the outbox, and leaves it with the unit that delivers it."""

    def test_what_is_sent_is_in_the_outbox_in_its_order(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.unit(sent(), MessageSent(topic="news"), sent())])
        first, second = store.messages_of([builder.stream, "task:order:no"], 10)
        assert (first.sender, first.target, first.sent_us) == (builder.stream, "task:order:t", NOW)
        assert (first.held, first.due_us) == (None, DUE)
        assert [first.event, second.event] == [
            event for event in store.events(builder.stream) if event.version in
            (first.version, second.version)
        ]  # fmt: skip
        assert second.version == first.version + 2
        assert store.messages_of([builder.stream], 1) == [first]
        assert store.messages_of([], 1) == []

    def test_a_page_has_the_first_ones_of_each_pair(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        other = "task:other:t"
        store.append([builder.begin(), builder.unit(*[sent()] * 5, sent(other), sent(other))])
        found = store.messages_of([builder.stream], 3)
        assert [message.target for message in found] == ["task:order:t", "task:order:t", other]
        assert [each.version for each in found] == sorted(each.version for each in found)

    def test_the_first_of_a_pair_says_when_a_sender_is_due(self, tmp_path: Path) -> None:
        store, one, two = self.open(tmp_path), UnitBuilder(), UnitBuilder("o-2")
        store.append([one.begin(), one.unit(sent(), sent("task:other:t"), at_us=NOW + 5)])
        store.append([two.begin(), two.unit(sent())])
        assert store.messages_due([ORDERS, OTHERS], DUE - 1, 10) == []
        assert store.messages_due([ORDERS, OTHERS], DUE, 10) == [two.stream]
        assert store.messages_due([ORDERS, OTHERS], DUE + 5, 10) == [two.stream, one.stream]
        assert store.messages_due([ORDERS, OTHERS], DUE + 5, 1) == [two.stream]
        assert store.messages_due([OTHERS], DUE + 5, 10) == [one.stream]
        assert store.messages_due([], DUE + 5, 10) == []

    def test_what_is_held_back_holds_back_those_behind_it(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin(), builder.unit(sent(), sent())])
        first, second = store.messages_of([builder.stream], 10)
        store.hold_message(first, "full", DUE + 9)
        assert [m.held for m in store.messages_of([builder.stream], 10)] == ["full", None]
        assert store.messages_due([ORDERS], DUE + 8, 10) == []
        assert store.messages_due([ORDERS], DUE + 9, 10) == [builder.stream]
        store.forget_messages([first])
        assert store.messages_of([builder.stream], 10) == [second]
        store.forget_messages([second])
        assert store.messages_of([builder.stream], 10) == []

    def test_a_unit_takes_a_message_once_and_those_before_it(self, tmp_path: Path) -> None:
        store, sender, target = self.open(tmp_path), UnitBuilder(), UnitBuilder("t")
        store.append([sender.begin(), sender.unit(sent(), sent(), sent("task:order:x"), sent())])
        first, second, _, last = [m.version for m in store.messages_of([sender.stream], 10)]
        taken = target.begin(received=Received(sender.stream, second))
        assert store.append([taken]).errors == [None]
        assert [m.version for m in store.messages_of([sender.stream], 10)][-1] == last
        assert len(store.messages_of([sender.stream], 10)) == 2
        for version in (first, second):
            again = target.fork().receive(received=Received(sender.stream, version))
            assert kinds(store.append([again])) == [AlreadyReceived]
        late = target.receive(received=Received(sender.stream, last))
        assert store.append([late]).errors == [None]
        [other] = store.messages_of([sender.stream], 10)
        assert other.target == "task:order:x"

    def test_one_that_was_taken_is_refused_alone(self, tmp_path: Path) -> None:
        store, sender, target = self.open(tmp_path), UnitBuilder(), UnitBuilder("t")
        other = UnitBuilder("o-2")
        store.append([sender.begin(), sender.unit(sent())])
        [message] = store.messages_of([sender.stream], 10)
        received = Received(sender.stream, message.version)
        store.append([target.begin(received=received)])
        late = target.fork()
        group = [late.receive(received=received), other.begin(), late.receive()]
        assert kinds(store.append(group)) == [AlreadyReceived, None, VersionConflict]
        assert store.append([target.receive()]).errors == [None]

    def test_a_message_may_be_taken_without_an_event(self, tmp_path: Path) -> None:
        store, sender, target = self.open(tmp_path), UnitBuilder(), UnitBuilder("t")
        store.append([sender.begin(), sender.unit(sent()), target.begin()])
        [message] = store.messages_of([sender.stream], 10)
        received = Received(sender.stream, message.version)
        assert store.append([target.unit(received=received)]).errors == [None]
        assert store.messages_of([sender.stream], 10) == []
        assert kinds(store.append([target.unit(received=received)])) == [AlreadyReceived]

    def test_a_unit_that_is_refused_sends_nothing(self, tmp_path: Path) -> None:
        store, builder = self.open(tmp_path), UnitBuilder()
        store.append([builder.begin()])
        late = builder.fork()
        store.append([builder.receive()])
        assert kinds(store.append([late.unit(sent())])) == [VersionConflict]
        assert store.messages_of([builder.stream], 10) == []

    def test_a_position_is_kept_and_never_goes_back(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.positions() == {}
        store.put_position("mailer", 5)
        store.put_position("views", 7)
        store.put_position("mailer", 3)
        assert store.positions() == {"mailer": 5, "views": 7}
        store.put_position("mailer", 9)
        assert self.open(tmp_path).positions() == {"mailer": 9, "views": 7}
