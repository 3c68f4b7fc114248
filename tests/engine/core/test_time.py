"""U9: durations and moments, as users may write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wakelog import ValidationError
from wakelog.core.time import MAX_US, as_datetime, duration_us, later_us, moment_us, when_us

S = 1_000_000


@pytest.mark.parametrize(
    ("duration", "us"),
    [
        (0, 0),
        (5, 5 * S),
        (0.25, 250_000),
        (timedelta(minutes=5), 300 * S),
        (timedelta(microseconds=1), 1),
        ("5m", 300 * S),
        ("1h30m", 5400 * S),
        ("1h 30m", 5400 * S),
        (" 90s ", 90 * S),
        ("1.5h", 5400 * S),
        ("250ms", 250_000),
        ("1us", 1),
        ("1d", 86_400 * S),
        ("2w", 14 * 86_400 * S),
        ("PT90S", 90 * S),
        ("P1DT12H", 36 * 3600 * S),
        ("P2W", 14 * 86_400 * S),
        ("PT0.5S", 500_000),
        ("PT0S", 0),
    ],
)
def test_U9_durations_are_seconds_timedeltas_and_texts(duration: Any, us: int) -> None:
    assert duration_us(duration) == us


@pytest.mark.parametrize(
    "duration",
    [
        *(-1, -0.5, -1e-9, timedelta(microseconds=-1), "-5m", "-PT5S"),
        *(math.inf, -math.inf, math.nan, 1e308, 10**400, "9" * 400 + "d"),
        *(True, False),
        *("", " ", "5", "5 minutes", "m", "5M", "1h-30m", "5m!", "٥m", "1e3s", "0x1s"),  # noqa: RUF001
        *("P", "PT", "P1Y", "P1M", "P1DT", "pt5s", "P1D12H"),
        *(None, [], {}, b"5m", Decimal(5), datetime(2026, 1, 1, tzinfo=UTC)),
        timedelta.max,
    ],
)
def test_U9_anything_else_is_an_error_that_says_what_would_fit(duration: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        duration_us(duration, "timeout")
    assert str(raised.value).startswith("timeout ")
    assert raised.value.issues[0]["type"] == "time"


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=365_000)))
def test_U9_a_timedelta_keeps_each_microsecond(duration: timedelta) -> None:
    assert timedelta(microseconds=duration_us(duration)) == duration


@given(st.text(max_size=12))
def test_U9_no_text_does_anything_but_fit_or_be_refused(text: str) -> None:
    try:
        us = duration_us(text)
    except ValidationError:
        return
    assert 0 <= us <= MAX_US


def test_U9_a_moment_is_an_aware_datetime_in_any_zone() -> None:
    # given the same instant in two zones
    there = datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    here = datetime(2026, 1, 1, 12, tzinfo=UTC)
    # then
    assert moment_us(there) == moment_us(here)
    assert as_datetime(moment_us(there)) == here
    assert as_datetime(moment_us(there)).tzinfo is UTC


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001
        "2026-01-01T00:00:00Z",
        1_767_225_600,
        None,
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
    ],
)
def test_U9_a_naive_or_impossible_moment_is_an_error(moment: Any) -> None:
    with pytest.raises(ValidationError, match="at "):
        moment_us(moment, "at")


@given(st.datetimes(timezones=st.just(UTC)))
def test_U9_a_moment_keeps_each_microsecond(moment: datetime) -> None:
    assert as_datetime(moment_us(moment)) == moment


def test_U9_when_is_counted_from_now_or_meant_as_it_stands() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    now_us = moment_us(now)
    assert when_us("5m", now_us) == now_us + 300 * S
    assert when_us(now - timedelta(days=1), now_us) == now_us - 86_400 * S


def test_U9_what_would_lie_past_the_year_9999_is_an_error() -> None:
    now_us = moment_us(datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ValidationError, match="too far away"):
        later_us(timedelta(days=2_932_000), now_us, "delay")
    assert later_us(timedelta(days=2_000_000), now_us) <= MAX_US
