"""What goes in and out of the doors: only what reads back goes in, and nobody holds up others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    computed_field,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from tests.adapters.cli.command_line import CommandLine
from tests.support import WAIT_S, Ctx, Staging, order_task, task_of
from wakelog import InstanceNotFoundError, InvalidStateError, Jobs, Task, ValidationError
from wakelog.definitions.schema import TypeSchema
from wakelog_adapters.cli.render.json_output import document

T = TypeVar("T")

WEIGHED = '{"kind": "weighed", "grams": 250}'


class Approve(BaseModel):
    by: str


class Reject(BaseModel):
    by: str


class Verdict(BaseModel):
    event: Approve | Reject


@dataclass
class Open:
    pass


@dataclass
class Shut:
    pass


class Login(BaseModel):
    password: SecretStr


class Base(BaseModel):
    items: list[Any] = []


class Renamed(Base):
    """No further field."""


class More(Base):
    extra: int = 0


class Kept(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    shown: int = Field(alias="theName")
    hidden: int = Field(default=0, exclude=True)
    _private: int = PrivateAttr(default=0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.shown


class Box(BaseModel, Generic[T]):
    value: T


class Colour(Enum):
    RED = "red"


class Code(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Pair(NamedTuple):
    x: int
    y: int


class Bag(BaseModel):
    items: list[Any] = []
    either: int | Number = 0


class Named(BaseModel):
    """Fields with names that pydantic uses for its own ends."""

    default: list[Any]
    metadata: int | Number = 0
    type: str = ""


class Row(TypedDict):
    at: datetime


class Loose(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants", extra="allow")

    value: float


@pydantic_dataclass
class Point:
    x: float
    tag: str = "p"


class Plain:
    """A class without `==`, which pydantic is told how to keep."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.text
            ),
        )


class Worn(Plain):
    """A class without `==` whose number is doubled whenever it is read."""

    def __init__(self, text: str | int) -> None:
        super().__init__(str(int(text) * 2))


def private(value: int) -> Kept:
    kept = Kept(theName=1, hidden=value)
    kept._private = value
    return kept


# -- what does not read back -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Approve | Reject, Reject(by="me")),
        (Verdict, Verdict(event=Reject(by="me"))),
        (list[Approve | Reject], [Approve(by="me"), Reject(by="me")]),
        (Open | Shut, Shut()),
        (SecretStr, SecretStr("hunter2")),
        (Login, Login(password=SecretStr("hunter2"))),
        (Any, float("inf")),
        (Any, {"deep": [float("nan")]}),
        (float | None, float("-inf")),
        (Any, {1, 2}),
        (Any, Open()),
        (dict, {1: "a"}),
        (Base, More(extra=5)),
        (Base | More, More(extra=0, items=[float("nan")])),
        (str | Code, Code.A),
        (list[str | Code], [Code.A]),
        (list[int | Number], [0, Number.ONE]),
        (frozenset[int | Number], frozenset({Number.ONE})),
        (list[Any], [Code.A]),
        (dict[str, Any], {"deep": {"er": (Code.A,)}}),
        (dict[Any, int], {Code.A: 1}),
        (Bag, Bag(items=[Code.A])),
        (list[Bag], [Bag(either=Number.ONE)]),
        (Named, Named(default=[Code.A])),
        (Named, Named(default=[], metadata=Number.ONE)),
        (Loose, Loose(value=1, more=Code.A)),  # type: ignore[call-arg]
        (list[Any], [Pair(1, 2)]),
        (list[Pair | tuple[int, int]], [(1, 2)]),
        (list[Any], [OrderedDict(a=1)]),
    ],
)
def test_what_does_not_read_back_is_refused(type_: Any, value: Any) -> None:
    with pytest.raises(ValidationError, match="does not read back as what was given") as raised:
        TypeSchema(type_, "event").dump(value, "job")
    assert raised.value.issues[0]["type"] == "round_trip"
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("type_", "value", "loc"),
    [
        (Login, Login(password=SecretStr("hunter2")), "password"),
        (Any, {"deep": [0, float("nan")]}, "deep.1"),
        (Any, float("inf"), ""),
        (dict, {1: "a"}, "1"),
        (list[Bag], [Bag(), Bag(either=Number.ONE)], "1.either"),
        (Bag, Bag(items=[{"of": Code.A}]), "items.0.of"),
        (Loose, Loose(value=1, more=Code.A), "more"),  # type: ignore[call-arg]
        (Bag, Bag(items=[1, {"of": object()}]), "items.1.of"),
        (Any, {"text": ["ok", "\ud800"]}, "text.1"),
        (Loose, Loose(value=1, more=object()), "more"),  # type: ignore[call-arg]
        (dict[str, Worn], {"a": Worn(0), "b": Worn(1)}, "b"),
    ],
)
def test_U4_the_refusal_of_what_does_not_read_back_names_the_field(
    type_: Any, value: Any, loc: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeSchema(type_, "event").dump(value, "job")
    assert [issue["loc"] for issue in raised.value.issues] == [loc]
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        (dict, {"at": datetime(2026, 1, 1)}, "at: {}, a datetime as a str: name its type (Any"),  # noqa: DTZ001
        (Any, {"deep": [{1}]}, "deep.0: {}, a set as a list: name its type (Any"),
        (dict, {1: "a"}, "1: {}, an int as a str: name its type (Any"),
        (Any, Open(), "{}, an Open as a dict: name its type (Any"),
        (Approve | Reject, Reject(by="me"), "{}, a Reject as an Approve: name its type (Any"),
        (Any, {"a": float("nan")}, "a: {}: keep secrets and infinities out"),
        (Login, Login(password=SecretStr("x")), "password: {}: keep secrets and infinities out"),
    ],
)
def test_U4_the_refusal_says_as_what_it_would_be_read_back(
    type_: Any, value: Any, said: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeSchema(type_, "event").dump(value, "job")
    start = said.format("does not read back as what was given")
    assert str(raised.value).startswith(f"event of 'job' is not valid: {start}")


def test_a_state_or_event_that_does_not_read_back_leaves_nothing_behind(stage: Staging) -> None:
    # given
    job = stage(event=str | UUID, on_event=lambda ctx, event: ctx.set_state(float("inf")))
    # when
    with pytest.raises(ValidationError, match="literal `kind`"):
        job.send(str(UUID(int=7)))
    # then
    assert job.status().status == "not_found"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Base, Renamed(items=[1])),
        (list[Base], [Renamed(items=[1])]),
        (Loose, Loose(value=float("nan"))),
        (Loose, Loose(value=float("inf"), more=1)),  # type: ignore[call-arg]
        (Kept, private(7)),
        (list[Kept], [private(7)]),
        (Box[int], Box[int](value=1)),
        (Box[int], Box(value=1)),
        (Box, Box[int](value=1)),
        (Decimal, Decimal("1.10")),
        (float, 0.1 + 0.2),
        (int | str, "1"),
        (int | str, 1),
        (set[str], {"b", "a", "c"}),
        (frozenset[int], frozenset({3, 1})),
        (tuple[int, ...], (1, 2)),
        (bytes, b"abc"),
        (Colour, Colour.RED),
        (Row, Row(at=datetime.fromisoformat("2026-01-01T12:00:00+05:30"))),
        (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))),
        (datetime, datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))),
        (Path, Path("a/b")),
        (Point, Point(1.5)),
        (Plain, Plain("x")),
        (dict[str, Plain], {"a": Plain("x")}),
        (list[str], [Code.A]),
        (list[int | bool | float], [True, 1, 1.0]),
        (list[Pair], [Pair(1, 2)]),
        (set[int | bool], {True, 2}),
        (Bag, Bag(items=[1, "a", {"b": None}], either=1)),
        (dict[Number, set[Code]], {Number.ONE: {Code.A}}),
        (Any, [(1, 2)]),
        (Any, {"a": [1, 2.5, None, True, "x"]}),
    ],
)
def test_what_reads_back_is_kept(type_: Any, value: Any) -> None:
    text, again = TypeSchema[Any](type_, "state").dump(value, "job")
    dumped = TypeAdapter(type_).dump_json(again, by_alias=False, round_trip=True).decode()
    assert sorted(dumped) == sorted(text)  # a set has no order
    assert again is not value or isinstance(value, int | str | Enum)


# -- a lane of their own for long reads ------------------------------------------------------------


def test_long_histories_do_not_hold_up_requests(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given six histories that are being read, and do not end
    begun, go_on = threading.Semaphore(0), threading.Event()

    def endless(*_: Any) -> list[Any]:
        begun.release()
        go_on.wait(WAIT_S)
        return []

    monkeypatch.setattr("wakelog.client.job_types.history", endless)
    with Jobs(job=task_of()).open(sqlite_url) as app:
        asking = [
            threading.Thread(target=app.history, args=("task:job:a",), daemon=True)
            for _ in range(6)
        ]
        for thread in asking:
            thread.start()
        assert begun.acquire(timeout=WAIT_S)
        assert begun.acquire(timeout=WAIT_S)
        # when
        answered: list[bool] = []
        sending = threading.Thread(
            target=lambda: answered.append(app.task("job").send("b", {}).created), daemon=True
        )
        sending.start()
        sending.join(WAIT_S / 2)
        # then
        assert answered == [True]
        go_on.set()
        for thread in asking:
            thread.join(WAIT_S)


# -- keys of requests that came to nothing ---------------------------------------------------------


def test_a_clear_that_found_nothing_is_remembered(stage: Staging) -> None:
    # given
    job = stage()
    first = job.clear(idempotency_key="k")
    assert (first.cleared, first.duplicate, first.version) == (False, False, 0)
    # then nothing can be seen of it
    assert job.status().status == "not_found"
    assert job.status().updated_at is None
    assert job.sim.list() == []
    with pytest.raises(InstanceNotFoundError):
        job.sim.history("task:job:a")
    # when the world changes
    job.sim.restart()
    sent = job.send({"set_state": 1})
    again = job.clear(idempotency_key="k")
    # then
    assert (sent.created, sent.event_count) == (True, 1)
    assert job.recorded()[0].version == 1
    assert (again.cleared, again.duplicate) == (False, True)
    assert job.state() == 1


def test_a_trigger_that_met_a_run_is_remembered(stage: Staging) -> None:
    # given
    job = stage()
    assert job.trigger(idempotency_key="k").reason == "not_found"
    job.send()
    # when
    again = job.trigger(idempotency_key="k")
    # then
    assert (again.triggered, again.reason, again.duplicate) == (False, "not_found", True)
    assert "RunStarted" not in job.names()


def test_an_empty_answer_may_replace_an_expired_one(stage: Staging) -> None:
    # given
    job = stage()
    job.clear(idempotency_key="k")
    # when
    job.sim.advance("8d")
    # then
    assert not job.clear(idempotency_key="k").duplicate
    assert job.clear(idempotency_key="k").duplicate


def test_a_refused_request_is_not_remembered(stage: Staging) -> None:
    job = stage()
    for _ in range(2):
        with pytest.raises(Exception, match="no"):
            job.send({"raise": "no"}, event_id="k")
    assert not job.send({"set_state": 1}, event_id="other").duplicate


# -- after the end ---------------------------------------------------------------------------------


def test_a_blocking_app_that_has_ended_says_so() -> None:
    # given
    order = order_task()
    with Jobs(order=order).open("memory://") as app:
        client = app.task(order)
    # then
    asks: list[Callable[[], object]] = [
        lambda: client.status("a"),
        lambda: app.history("task:order:a"),
        lambda: app.list(),
        lambda: app.task("order").clear("a"),
    ]
    for ask in asks:
        with pytest.raises(InvalidStateError, match="the app is closed"):
            ask()
    app.close()
    app.close(grace="1s")


# -- lists -----------------------------------------------------------------------------------------


def test_a_list_goes_on_until_it_is_full(store_url: str) -> None:
    # given
    with Jobs(a=task_of(), z=task_of()).open(store_url) as app:
        for number in range(5):
            app.task("a").send(f"{number}", {"schedule": "0s"})
            app.task("z").send(f"{number}", {"set_state": 1})
        # when
        idle = app.list(status="idle", limit=3)
        due = app.list(status="unhandled", limit=3)
        # then
        assert [row.instance_id for row in idle] == [f"task:z:{n}" for n in range(3)]
        assert [row.instance_id for row in due] == [f"task:a:{n}" for n in range(3)]
        rest = app.list(status="unhandled", limit=3, after=due[-1].instance_id)
        assert [row.instance_id for row in rest] == ["task:a:3", "task:a:4"]


# -- arguments of the wrong type -------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": "5"},
        {"limit": True},
        {"limit": 0},
        {"limit": 1_001},
        {"id_prefix": 5},
        {"name": 5},
        {"error": 5},
        {"after": "\ud800"},
        {"id_prefix": "\ud800"},
        {"status": "foo"},
        {"status": 5},
        {"due_before": 5},
    ],
    ids=str,
)
def test_a_list_of_nonsense_is_refused(stage: Staging, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage().sim.list(**wrong)


@pytest.mark.parametrize("version", ["1", 1.0, True, -1, 1 << 70])
def test_a_version_must_be_one(stage: Staging, version: Any) -> None:
    job = stage()
    job.send()
    with pytest.raises(ValidationError, match="version"):
        job.sim.state_at("task:job:a", version=version)


@pytest.mark.parametrize("key", ["\ud800", "", "a\nb", 5])
def test_a_key_to_forget_must_be_one(stage: Staging, key: Any) -> None:
    job = stage()
    with pytest.raises(ValidationError, match="key"):
        job.sim.task(job.task).forget_key("1", key)


@pytest.mark.parametrize("type_", [Iterable[int], list[Iterable[int]]])
def test_a_type_that_is_read_only_once_is_refused(type_: Any) -> None:
    task: Task[Any, Any] = Task(state=type_, event=int)
    task.on_event(lambda ctx, event: None)
    with pytest.raises(ValidationError, match=r"given as state= .*give a list"):
        Jobs(job=task)


@pytest.mark.parametrize("bound", ["x", 1.5, True, 0, None])
def test_max_waiting_must_be_a_number(bound: Any) -> None:
    with pytest.raises(ValidationError, match="max_waiting"):
        Task(state=int, event=int, max_waiting=bound)


def yields(ctx: Ctx) -> Iterator[None]:
    yield


async def yields_later(ctx: Ctx) -> AsyncIterator[None]:
    yield


class Yields:
    def __call__(self, ctx: Ctx) -> Iterator[None]:
        yield


@pytest.mark.parametrize("fn", [yields, yields_later, Yields()])
def test_a_handler_must_not_be_a_generator(fn: Any) -> None:
    task = Task(state=int, event=int)
    with pytest.raises(ValidationError, match="must not yield"):
        task.execute(fn)
    with pytest.raises(ValidationError, match="must not yield"):
        task.on_event(timeout="1s")(fn)


# -- the command line ------------------------------------------------------------------------------


def test_clear_on_the_command_line(sqlite_url: str) -> None:
    wakelog = CommandLine(sqlite_url)
    wakelog("send", "parcel", "p-1", WEIGHED)
    nothing = wakelog("clear", "parcel", "zz", "--json")
    assert nothing.exit_code == 1
    assert '"cleared":false' in nothing.stdout.replace(" ", "")
    assert wakelog("clear", "parcel", "zz", "--after", "1d").exit_code == 1
    said = wakelog.refusal(2, "clear", "parcel", "zz", "--after", "1d", "--cancel")
    assert "--after and --cancel" in said
    nothing = wakelog("clear", "parcel", "p-1", "--cancel")
    assert (nothing.exit_code, "nothing to cancel" in nothing.stdout) == (1, True)
    assert wakelog("clear", "parcel", "p-1", "--after", "1d").exit_code == 0
    assert wakelog("clear", "parcel", "p-1", "--cancel").exit_code == 0


def test_a_document_is_json_whatever_a_state_holds() -> None:
    said = document({"state": {"a": [float("nan"), float("inf"), -float("inf"), 1.5]}})
    assert said == '{"state": {"a": ["NaN", "Infinity", "-Infinity", 1.5]}}'
