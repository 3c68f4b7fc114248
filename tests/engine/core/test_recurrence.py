"""Cadence: when recurring work is due, as arithmetic on values (C3, C4)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wakelog.core.cron import cron_of
from wakelog.core.recurrence import Recurrence, recurrence
from wakelog.core.time import MAX_US, Duration, as_datetime, duration_us, moment_us
from wakelog.errors import ValidationError

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
FIXED = ["30 2 * * *", "0 0 * * *", "59 23 31 12 *", "15 1 * * SUN", "0 9 L * *", "45 1 29 2 *"]
BY_CLOCK = ["30 * * * *", "*/20 1-3 * * *", "0,30 2 * * *", "45 */2 * * 0", "0 2,4 * * *"]


def every(
    interval: Duration, mode: str = "fixed_rate", jitter: Duration | None = None
) -> Recurrence:
    return recurrence(every=interval, cron=None, mode=mode, zone="UTC", jitter=jitter)  # type: ignore[arg-type]


def by_cron(text: str, zone: str = "UTC", jitter: Duration | None = None) -> Recurrence:
    return recurrence(every=None, cron=text, mode="fixed_delay", zone=zone, jitter=jitter)


def us(text: str, zone: str = "UTC") -> int:
    """A moment as a clock in `zone` shows it, as in `2026-03-29 02:30`."""
    return moment_us(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def comes(text: str, zone: str, since: str, until: str) -> list[str]:
    """The occurrences of a cron string from `since` to `until`, as the clock of `zone` shows them,
    each with its distance to UTC."""
    found: list[str] = []
    rule = by_cron(text, zone)
    at_us = rule.after(us(since, zone) - 1, 0)
    while at_us <= us(until, zone):
        found.append(as_datetime(at_us).astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z"))
        at_us = rule.after(at_us, 0)
    return found


# -- intervals -------------------------------------------------------------------------------------


def test_C3_a_fixed_delay_counts_from_where_it_is_asked() -> None:
    assert every("30m", "fixed_delay").after(17, 5) == 17 + HOUR_US // 2


@pytest.mark.parametrize(
    ("after_us", "steps"), [(-1, 0), (0, 0), (99, 0), (100, 1), (101, 1), (3 * HOUR_US, 3)]
)
def test_C3_a_fixed_rate_is_a_grid_from_its_origin(after_us: int, steps: int) -> None:
    assert every("1h").after(after_us, 100) == 100 + steps * HOUR_US


def test_C3_the_shortest_interval_is_ten_milliseconds() -> None:
    assert every("10ms").after(0, 0) == 10_000


@pytest.mark.parametrize(
    "rule", [every("2900000d"), every("2900000d", "fixed_delay"), by_cron("0 0 1 1 *")]
)
def test_C3_nothing_lies_behind_the_end_of_time(rule: Recurrence) -> None:
    assert rule.after(MAX_US - 1, 0) == MAX_US


def test_intervals_that_differ_are_told_apart() -> None:
    assert every(1234567.000001).text != every(1234567).text


# -- cron over the changes of the clock ------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "text", "day", "shown"),
    [  # a fixed hour and minute: in a skipped hour once, right after it; in a repeated one once
        ("Europe/Berlin", "30 2 * * *", "2026-03-29", ["03-29 03:00 +0200"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25", ["10-25 02:30 +0200"]),
        ("America/New_York", "30 2 * * *", "2026-03-08", ["03-08 03:00 -0400"]),
        ("America/New_York", "30 1 * * *", "2026-11-01", ["11-01 01:30 -0400"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04", ["10-04 02:30 +1100"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05", ["04-05 01:45 +1100"]),
        ("Asia/Beirut", "30 0 * * *", "2026-03-29", ["03-29 01:00 +0300"]),
        # with `*`, a list or a step: as the clock shows
        ("Europe/Berlin", "30 2,4 * * *", "2026-03-29", ["03-29 04:30 +0200"]),
        (
            "Europe/Berlin",
            "30 2,4 * * *",
            "2026-10-25",
            ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 04:30 +0100"],
        ),
        (
            "America/New_York",
            "0 1-3 * * *",
            "2026-03-08",
            ["03-08 01:00 -0500", "03-08 03:00 -0400"],
        ),
        (
            "Australia/Lord_Howe",
            "0 1,2 * * *",
            "2026-04-05",
            ["04-05 01:00 +1100", "04-05 02:00 +1030"],
        ),
        (
            "Australia/Lord_Howe",
            "*/15 2 * * *",
            "2026-10-04",
            ["10-04 02:30 +1100", "10-04 02:45 +1100"],
        ),
        ("Asia/Beirut", "0 0,1 * * *", "2026-03-29", ["03-29 01:00 +0300"]),
    ],
)
def test_C3_a_day_on_which_the_clock_changes(
    zone: str, text: str, day: str, shown: list[str]
) -> None:
    assert comes(text, zone, f"{day} 00:00", f"{day} 23:59") == shown


@pytest.mark.parametrize(
    ("zone", "hours"),
    [("Europe/Berlin", 8760), ("Asia/Kolkata", 8760), ("Australia/Lord_Howe", 8759)],
)
def test_C3_a_year_has_the_full_hours_that_its_clock_shows(zone: str, hours: int) -> None:
    """On Lord Howe Island the clock jumps from 2:00 to 2:30 in spring, and shows no 2:00."""
    rule, begin_us = by_cron("0 * * * *", zone), us("2026-01-01 00:00", zone)
    end_us = us("2027-01-01 00:00", zone)
    assert rule.passed(begin_us, end_us - 1, 0).number == hours


@pytest.mark.parametrize(
    ("text", "since", "days"),
    [
        ("0 0 * * 0", "2026-03-01", ["03-01", "03-08", "03-15"]),
        ("0 0 * * 7", "2026-03-01", ["03-01", "03-08", "03-15"]),
        ("0 0 * * MON-FRI", "2026-03-06", ["03-06", "03-09", "03-10"]),
        ("0 0 31 * *", "2026-01-01", ["01-31", "03-31", "05-31"]),
        ("0 0 L * *", "2028-01-01", ["01-31", "02-29", "03-31"]),
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 13 * 5", "2026-03-01", ["03-06", "03-13", "03-20"]),  # either of the two, as in cron
        ("0 0 29 2 *", "2096-03-01", ["2104-02-29", "2108-02-29"]),
    ],
)
def test_C3_days_of_weeks_and_months(text: str, since: str, days: list[str]) -> None:
    rule = by_cron(text)
    at_us = us(f"{since} 00:00") - 1
    for day in days:
        at_us = rule.after(at_us, 0)
        assert as_datetime(at_us).date().isoformat().endswith(day)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 */2 * 1", ["03-09", "03-23", "04-13"]),  # a field that begins with *: both must match
        ("0 0 1,13 * */3", ["03-01", "04-01", "05-13"]),
        ("0 0 1-31/2 * 1", ["03-01", "03-02", "03-03", "03-05"]),  # neither does: either
        ("0 0 1-7 * 1", ["03-01", "03-02", "03-03", "03-04", "03-05", "03-06", "03-07", "03-09"]),
        ("0 0 * * 1#1", ["03-02", "04-06", "05-04"]),
        ("0 0 * * 5L", ["03-27", "04-24", "05-29"]),
        ("0 0 LW * *", ["03-31", "04-30", "05-29"]),
    ],
)
def test_C3_both_days_must_match_if_one_field_begins_with_a_star(
    text: str, days: list[str]
) -> None:
    found = comes(text, "UTC", "2026-03-01 00:00", "2026-06-01 00:00")
    assert [each.split()[0] for each in found[: len(days)]] == days


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("*/90 * * * *", "every='90m'"),
        ("*/61 * * * *", "every='61m'"),
        ("0,0-10/20 * * * *", "every='20m'"),
        ("50/20 * * * *", "every='20m'"),
        ("0 */25 * * *", "every='25h'"),
        ("0 8-18/12 * * *", "every='12h'"),
        ("0 0 */40 * *", "every='40d'"),
        ("0 0 L/2 * *", "every='2d'"),
        ("0 0 1 */13 *", "name the months"),
        ("0 0 * JAN-MAR/4 *", "name the months"),
        ("0 0 * * */8", "every='8d'"),
        ("0 0 * * MON-WED/3", "every='3d'"),
        ("5-5/2 * * * *", "every='2m'"),
        ("0,5-5/2 * * * *", "every='2m'"),
        ("0 5-5/3 * * *", "every='3h'"),
        ("0 0 15-15/2 * *", "every='2d'"),
        ("0 0 * MAR-3/3 *", "name the months"),
        ("0 0 * * 1-mon/2", "every='2d'"),
        ("0 0 LW/31 * *", "every='31d'"),
        ("0 0 */31 * *", "every='31d'"),
        ("0 0 1 */12 *", "name the months"),
    ],
)
def test_C3_a_step_that_reaches_no_second_value_is_refused(text: str, instead: str) -> None:
    with pytest.raises(ValidationError, match=instead):
        by_cron(text)


@pytest.mark.parametrize(
    "text",
    ["*/60 * * * *", "5/60 * * * *", "0 */24 * * *", "0 0 */30 * *", "0 0 * * */7", "0 0 * * 1/7",
     "*/7 * * * *", "0-30/30 * * * *", "0,45-59/14 1-23/22 * * mon-fri/2", "0 0 1-31/30 * *"],
)  # fmt: skip
def test_C3_a_step_that_is_as_large_as_its_field_says_what_it_does(text: str) -> None:
    assert by_cron(text).after(0, 0) > 0


def test_C3_a_step_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ValidationError):
        by_cron(f"*/{'9' * 5_000} * * * *")


@given(
    zone=st.sampled_from(ZONES),
    text=st.sampled_from(BY_CLOCK),
    day=st.dates(date(2026, 1, 1), date(2028, 12, 31)),
)
@settings(max_examples=60)
def test_C3_by_the_clock_is_what_a_clock_would_show(zone: str, text: str, day: date) -> None:
    """Against a watch that is looked at in every minute of two days."""
    tz, rule = ZoneInfo(zone), by_cron(text, zone)
    minute, hour, *_, weekday = text.split()
    begin_us = us(f"{day} 00:00")
    expected = []
    for at_us in range(begin_us, begin_us + 48 * HOUR_US, MINUTE_US):
        shown = as_datetime(at_us).astimezone(tz)
        if (
            shown.minute in _values(minute, 60)
            and shown.hour in _values(hour, 24)
            and weekday in ("*", str(shown.isoweekday() % 7))
        ):
            expected.append(at_us)
    found = []
    at_us = rule.after(begin_us - 1, 0)
    while at_us < begin_us + 48 * HOUR_US:
        found.append(at_us)
        at_us = rule.after(at_us, 0)
    assert found == expected


def _values(field: str, end: int) -> set[int]:
    """The numbers of the few kinds of fields that are used here."""
    if field.startswith("*/"):
        return set(range(0, end, int(field[2:])))
    if field == "*":
        return set(range(end))
    if "-" in field:
        first, last = map(int, field.split("-"))
        return set(range(first, last + 1))
    return set(map(int, field.split(",")))


# -- what holds of any cadence ---------------------------------------------------------------------

moments = st.integers(us("2020-01-01 00:00"), us("2060-01-01 00:00"))
intervals = st.integers(10_000, 400 * 24 * HOUR_US).map(lambda us: timedelta(microseconds=us))
grids = st.one_of(
    st.builds(every, intervals),
    st.builds(by_cron, st.sampled_from(FIXED + BY_CLOCK), st.sampled_from(ZONES)),
)
rules = st.one_of(grids, st.builds(every, intervals, st.just("fixed_delay")))


@given(rule=rules, at_us=moments, later_us=st.integers(0, 100 * 24 * HOUR_US), origin_us=moments)
def test_C3_the_next_is_strictly_later_and_never_overtakes(
    rule: Recurrence, at_us: int, later_us: int, origin_us: int
) -> None:
    first, second = rule.after(at_us, origin_us), rule.after(at_us + later_us, origin_us)
    assert at_us < first <= second
    if rule.is_grid and at_us + later_us < first:
        assert second == first


@given(grid=grids, at_us=moments, number=st.integers(0, 40), origin_us=moments, late=st.data())
def test_C4_what_has_passed_is_what_one_finds_step_by_step(
    grid: Recurrence, at_us: int, number: int, origin_us: int, late: st.DataObject
) -> None:
    """Also from a moment that lies beside the grid: jitter, or a handler, has set it."""
    steps = [at_us]
    for _ in range(number):
        steps.append(grid.after(steps[-1], origin_us))
    beyond_us = grid.after(steps[-1], origin_us) - 1
    now_us = late.draw(st.integers(steps[-1], beyond_us))
    assert grid.passed(at_us, now_us, origin_us) == (number + 1, steps[-1])
    back = late.draw(st.integers(0, max(0, number - 1)))
    if number:
        assert grid.back(steps[-1], back) == steps[-1 - back]


@given(rule=rules, at_us=moments, jitter=intervals, seed=st.text(max_size=3), origin_us=moments)
def test_C3_jitter_is_later_and_never_reaches_the_next(
    rule: Recurrence, at_us: int, jitter: timedelta, seed: str, origin_us: int
) -> None:
    jittered = Recurrence(rule.text, rule.every_us, rule.mode, rule.cron, duration_us(jitter))
    due_us = rule.after(at_us, origin_us)
    spread_us = jittered.spread(due_us, origin_us, seed)
    assert due_us <= spread_us < rule.after(due_us, origin_us)
    assert spread_us <= due_us + jittered.jitter_us
    assert spread_us == jittered.spread(due_us, origin_us, seed)
    if rule.is_grid:
        assert rule.after(spread_us, origin_us) == rule.after(due_us, origin_us)


def test_C4_a_fixed_delay_has_one_at_a_time() -> None:
    assert every("10ms", "fixed_delay").passed(0, 10**15, 0) == (1, 0)


def test_C4_a_year_of_minutes_is_counted_exactly() -> None:
    rule = by_cron("* * * * *", "Europe/Berlin")
    begin_us, end_us = us("2026-01-01 00:00"), us("2027-01-01 00:00")
    assert rule.passed(begin_us, end_us, 0) == (365 * 1440 + 1, end_us)
    assert rule.back(end_us, 10_000) == end_us - 10_000 * MINUTE_US


def test_a_cron_is_not_asked_for_more_than_there_is() -> None:
    with pytest.raises(AssertionError, match="did not occur"):
        cron_of("0 0 1 1 *", "UTC").back(us("0003-01-01 00:00"), 5)
