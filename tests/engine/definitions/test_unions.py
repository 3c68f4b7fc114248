"""U4, U8: what a union cannot keep is refused where the job is made, and nothing else is."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from functools import reduce
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    PlainSerializer,
    Tag,
    field_serializer,
)

from wakelog import Continuous, Debounce, Jobs, Task, ValidationError, WorkerPool
from wakelog.definitions.schema import TypeSchema
from wakelog.testing import Simulation


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Shape(Enum):
    ROUND = "round"


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
VALUES: dict[Any, list[Any]] = {
    str: ["a", "7", "2026-01-31", "1.5"],
    int: [0, 7, -(10**30)],
    bool: [True, False],
    float: [1.0, 2.5, 1e300],
    bytes: [b"a", b"7"],
    Decimal: [Decimal("1.5"), Decimal(7), Decimal(10**30)],
    Fraction: [Fraction(1, 3)],
    UUID: [UUID(int=7)],
    date: [date(2026, 1, 31)],
    datetime: [NOON, NOON.replace(tzinfo=None)],
    time: [time(9), time(9, tzinfo=UTC)],
    timedelta: [timedelta(0), timedelta(days=-9, seconds=1)],
    Path: [Path("/a"), Path("a.txt")],
    IPv4Address: [IPv4Address("10.0.0.1")],
    IPv6Address: [IPv6Address("::1")],
    AnyUrl: [AnyUrl("http://example.org/")],
    Color: list(Color),
    Size: list(Size),
    Shape: list(Shape),
    Literal["red"]: ["red"],
    list[int]: [[1], [1, 2]],
    set[int]: [{1}, {1, 2}],
    list[str]: [["a"], ["7"]],
    dict[str, UUID]: [{"a": UUID(int=7)}],
    dict[str, str]: [{"a": "b"}],
}
"""Types, and values of each: some that look like one of another type, and some that do not."""


def union_of(*types: Any) -> Any:
    return reduce(operator.or_, types)


def is_kept(schema: TypeSchema[Any], value: Any) -> bool:
    try:
        schema.dump(value, "job")
    except ValidationError:
        return False
    return True


def refusal(type_: Any) -> str | None:
    """Why a definition with this type is refused; None if it is not."""
    try:
        Jobs(job=job_of(Task(state=int, event=type_)))
    except ValidationError as error:
        return str(error)
    return None


def job_of(definition: Any) -> Any:
    """The definition, with the handlers that it needs."""
    if definition.kind in ("task", "debounce"):
        definition.on_event(lambda ctx, event: None)
    if definition.kind == "workerPool":
        definition.execute(lambda ctx, event: None)
    else:
        definition.execute(lambda ctx: None)
    return definition


@pytest.mark.parametrize("one", VALUES, ids=str)
def test_U4_a_union_is_refused_if_no_value_of_a_member_can_be_kept_and_only_then(one: Any) -> None:
    for other in VALUES:
        for members in ((one, other), (one, other, None), (other, one)) if other is not one else ():
            schema = TypeSchema[Any](union_of(*members), "event")
            useless = [
                member
                for member in (one, other)
                if not any(is_kept(schema, value) for value in VALUES[member])
            ]
            assert bool(refusal(union_of(*members))) == bool(useless), members


@pytest.mark.parametrize(
    ("type_", "named"),
    [
        (str | date, "date and str"),
        (UUID | str, None),
        (datetime | str | None, None),
        (str | datetime, "datetime and str"),
        (str | int | Decimal, "Decimal and str"),
        (Color | str, "Color and str"),
        (Size | int, "Size and int"),
        (str | HttpUrl, "HttpUrl and str"),
        (list[int] | set[int], "set[int] and list[int]"),
        (list[str] | list[date], "list[date] and list[str]"),
        (dict[str, str | date], "date and str"),
    ],
    ids=str,
)
def test_U4_both_members_are_named_and_what_to_write_instead(type_: Any, named: str | None) -> None:
    said = refusal(type_)
    if named is None:
        assert said is None
    else:
        one, other = named.split(" and ")
        assert said == (
            f"the type given as event= is not valid: {named} of a union look the same as JSON, and "
            f"each {one} would be read back as {other}: name one of them, or put each into a class "
            'with a kind: Literal["a"] = "a" of its own'
        )


class Plain(BaseModel):
    day: str | date | None = None


@dataclass
class Kept:
    days: list[str | date]


class Told(BaseModel):
    kind: Literal["told"] = "told"
    day: date


class Text(BaseModel):
    kind: Literal["text"] = "text"
    text: str


DEFINITIONS: list[tuple[str, Callable[[Any], Any]]] = [
    ("state", lambda type_: Task(state=type_, event=int)),
    ("event", lambda type_: Task(state=int, event=type_)),
    ("state", lambda type_: Continuous(state=type_, every="1h")),
    ("event", lambda type_: Debounce(event=type_, flush_after="1s")),
    ("state", lambda type_: Debounce(event=int, state=type_, flush_after="1s")),
    ("event", lambda type_: WorkerPool(event=type_)),
]


@pytest.mark.parametrize("number", range(len(DEFINITIONS)))
@pytest.mark.parametrize("type_", [Plain, Kept, Plain | Text], ids=str)
def test_U4_a_union_of_a_field_is_refused_in_each_type_of_job(number: int, type_: Any) -> None:
    where, definition = DEFINITIONS[number]
    with pytest.raises(ValidationError, match=f"given as {where}= .* date and str of a union"):
        Jobs(job=job_of(definition(type_)))
    assert Jobs(job=job_of(definition(Told | Text))).names()


class Seconds(BaseModel):
    """Its durations are numbers, which a text is not."""

    model_config = ConfigDict(ser_json_timedelta="float")
    either: timedelta | str


def from_mark(value: Any) -> Any:
    return date.fromisoformat(value[1:]) if str(value)[:1] == "@" else value


class Marked(BaseModel):
    """It writes its days in a way of its own, and reads them so."""

    day: Annotated[str | date, BeforeValidator(from_mark)]

    @field_serializer("day")
    def written(self, day: str | date) -> str:
        return f"@{day}" if isinstance(day, date) else day


def tag_of(value: Any) -> str:
    return "day" if isinstance(value, date) or str(value).count("-") == 2 else "text"


def as_bytes(value: Any) -> Any:
    return bytes(value) if isinstance(value, list) else value


TOLD_APART: list[tuple[Any, list[Any]]] = [
    (Seconds, [Seconds(either="x"), Seconds(either=timedelta(seconds=5))]),
    (Marked, [Marked(day="x"), Marked(day=NOON.date())]),
    (Annotated[str, Field(max_length=9)] | date, ["x", NOON.date()]),
    (Annotated[str, Field(pattern="^o-")] | datetime, ["o-17", NOON]),
    (
        Annotated[
            Annotated[str, Tag("text")] | Annotated[date, Tag("day")], Discriminator(tag_of)
        ],
        ["x", NOON.date()],
    ),
    (str | Annotated[bytes, PlainSerializer(list), BeforeValidator(as_bytes)], ["x", b"\xff"]),
    (Literal["red"] | Color, ["red", Color.BLUE]),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "values"), TOLD_APART, ids=lambda each: str(each)[:40])
def test_U4_a_union_that_is_told_apart_is_taken(type_: Any, values: list[Any]) -> None:
    assert refusal(type_) is None
    for value in values:
        assert TypeSchema[Any](type_, "event").dump(value, "job")[1] == value


@pytest.mark.parametrize("is_enum", [False, True])
def test_U4_no_function_of_the_users_is_called_to_find_out(is_enum: bool) -> None:
    called: list[Any] = []

    def note(value: Any) -> Any:
        called.append(value)
        return value

    class Open(StrEnum):
        RED = "red"

        @classmethod
        def _missing_(cls, value: Any) -> Any:
            return note(None)

    assert refusal((Open if is_enum else Annotated[str, BeforeValidator(note)]) | date) is None
    assert called == []


def test_U4_what_a_union_takes_for_another_member_at_once_is_left_to_it() -> None:
    leftmost: Any = Annotated[str | Color, Field(union_mode="left_to_right")]
    assert refusal(leftmost) is None
    assert TypeSchema[Any](leftmost, "event").dump(Color.RED, "job")[1] == "red"


@pytest.mark.parametrize("type_", [str | date, Plain], ids=str)
def test_I4_the_result_of_a_step_may_be_of_such_a_type(type_: Any) -> None:
    """Its function may never return a value of the other member."""

    def day() -> Any:
        return "today" if type_ is not Plain else Plain(day="today")

    days: list[Any] = []

    async def execute(ctx: Any) -> None:
        days.append(await ctx.step("day", day, result=type_))

    task = Task(state=int, event=int)
    task.on_event(lambda ctx, event: ctx.schedule(0))
    task.execute(execute)
    with Simulation(Jobs(job=task)) as sim:
        sim.task(task).send("a", 1)
        sim.run_until_idle()
    assert days == [day()]
