"""A deadline of the real world: the alarm raises each penalty of a log on its very day."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from examples.traffic_fines.__main__ import MADE_UP, main
from examples.traffic_fines.fine import ROME, Created, Notified, Paid, Sent, fine, jobs, penalty_due
from examples.traffic_fines.records import LogError, Record, read_log
from examples.traffic_fines.replay import Comparison, compare, feed
from wakelog.testing import Simulation

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("WAKELOG_TEST_DATA") or ROOT.parent / "shared" / "data")
CSV = DATA / "roadtraffic100traces.csv"
XES = DATA / "roadtraffic_1t_per_variant.xes.gz"

needs_the_real_log = pytest.mark.skipif(
    not (CSV.is_file() and XES.is_file()),
    reason="the real log is not beside this checkout",
)

SHIPPED = """\
made_up.csv: 6 cases, 29 events, 2024-01-08 to 2025-12-15

case       notified    in the log  raised
M1         2024-02-10  2024-04-10  2024-04-10  exact
M4         2024-03-04  2024-05-03  2024-05-03  exact
M6         2024-06-03  2024-08-02  2024-08-02  exact
M2         2024-09-16  2024-11-15  2024-11-15  exact

raised on the exact day: 4 of 4 in the log
missing: 0, early: 0, late: 0
raised by rule, not in the log: 0
raised on the exact day although an appeal was under way: 1
no penalty, neither in the log nor here: 2 (never notified: 1, paid in full in time: 1)
"""

TIMELINE = """\
task:fine:M3, by the calendar of Europe/Rome
  2024-02-01  life began
              received event {"kind":"Create Fine","amount":"42.0"}
              state set to {"stage":"open","penalty_on":null,"amount":"42.0","expense":"0","paid":"0"}
  2024-02-20  received event {"kind":"Send Fine","expense":"13.5"}
              state set to {"stage":"open","penalty_on":null,"amount":"42.0","expense":"13.5","paid":"0"}
  2024-03-04  received event {"kind":"Insert Fine Notification","on":"2024-03-04"}
              state set to {"stage":"notified","penalty_on":null,"amount":"42.0","expense":"13.5","paid":"…
              scheduled a run at 2024-05-02 22:00:00 UTC
  2024-05-02  received event {"kind":"Payment","amount":"55.5"}
              state set to {"stage":"settled","penalty_on":null,"amount":"42.0","expense":"13.5","paid":"5…
              cancelled the schedule
"""  # noqa: E501  as printed

HEADER = "case:concept:name,concept:name,time:timestamp,amount,expense,paymentAmount\n"


def log(tmp_path: Path, *lines: str) -> Path:
    """A CSV log of these lines."""
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def replayed(path: Path, url: str = "memory://") -> tuple[list[Record], list[Comparison]]:
    """A log's records, and how the engine's penalties compare with the log's."""
    records = read_log(path)
    with Simulation(jobs, start=records[0].at, url=url) as sim:
        feed(sim, records)
        return records, compare(sim, records)


# -- the log that ships with the example ----------------------------------------------------------


def test_the_shipped_log_is_reproduced_to_the_day() -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.traffic_fines"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\n".join(line.rstrip() for line in ran.stdout.splitlines()) + "\n" == SHIPPED


def test_one_case_is_shown_as_a_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", "M3", "--store", "memory://"]) == 0
    assert capsys.readouterr().out == TIMELINE


def test_a_store_of_ones_own_keeps_the_fines(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fines.db"
    assert main([str(MADE_UP), "--store", url]) == 0
    with jobs.open(url) as app:
        kept = app.task(fine).get_state("M1")
        assert kept is not None
        assert kept.penalty_on == date(2024, 4, 10)
        assert len(app.list(name="fine")) == 6


def test_a_store_that_holds_fines_already_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/fines.db"
    assert main(["--store", url]) == 0
    capsys.readouterr()
    assert main(["--store", url]) == 2
    assert capsys.readouterr().err == (
        "the store holds fines already: give a new one with --store\n"
    )


# -- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notified_on", "due", "hours"),
    [
        (date(2024, 2, 10), datetime(2024, 4, 9, 22, tzinfo=UTC), 60 * 24 - 1),
        (date(2024, 9, 16), datetime(2024, 11, 14, 23, tzinfo=UTC), 60 * 24 + 1),
        (date(2024, 6, 3), datetime(2024, 8, 1, 22, tzinfo=UTC), 60 * 24),
    ],
    ids=["clocks go forward", "clocks go back", "clocks stay"],
)
def test_sixty_days_are_days_of_the_calendar_and_not_of_24_hours(
    notified_on: date, due: datetime, hours: int
) -> None:
    notified = datetime.combine(notified_on, datetime.min.time(), ROME)
    with Simulation(jobs, start=notified) as sim:
        sim.task(fine).send("A1", Notified(on=notified_on))
        [alarm] = sim.alarms()
        assert alarm.due_at == due == penalty_due(notified_on)
        assert (alarm.due_at - notified).total_seconds() == hours * 3600
        sim.advance_to(alarm.due_at)
        [started] = [e for e in sim.history("task:fine:A1") if e.event == "RunStarted"]
        assert started.at == due
        assert "late_us" not in started.data


def test_the_penalty_is_not_there_a_microsecond_early() -> None:
    with Simulation(jobs, start=datetime(2024, 2, 10, tzinfo=ROME)) as sim:
        sim.task(fine).send("A1", Notified(on=date(2024, 2, 10)))
        assert sim.advance_to(datetime(2024, 4, 9, 23, 59, 59, 999_999, tzinfo=ROME)) == 0
        assert sim.advance("1us") == 1


@pytest.mark.parametrize(
    ("payment", "stage"), [("55.49", "penalised"), ("55.50", "settled"), ("60", "settled")]
)
def test_only_a_payment_of_fine_and_expenses_averts_the_penalty(payment: str, stage: str) -> None:
    with Simulation(jobs, start=datetime(2024, 2, 1, tzinfo=ROME)) as sim:
        fines = sim.task(fine)
        fines.send("A1", Created.model_validate({"amount": "42"}))
        fines.send("A1", Sent.model_validate({"expense": "13.5"}))
        fines.send("A1", Notified(on=date(2024, 2, 1)))
        sim.advance("3d")
        fines.send("A1", Paid.model_validate({"amount": payment}))
        sim.run_until_idle()
        state = fines.get_state("A1")
        assert state is not None
        assert state.stage == stage


def test_what_was_paid_before_the_notification_counts(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "A1,Create Fine,2024-01-08,42,,",
        "A1,Send Fine,2024-01-20,,13.5,",
        "A1,Payment,2024-01-25,,,55.5",
        "A1,Insert Fine Notification,2024-02-01,,,",
    )
    _, [compared] = replayed(path)
    assert (compared.stage, compared.raised_on) == ("settled", None)


def test_who_pays_on_the_sixtieth_day_is_too_late(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "A1,Create Fine,2024-01-08,42,,",
        "A1,Insert Fine Notification,2024-02-10,,,",
        "A1,Payment,2024-04-10,,,42",
    )
    _, [compared] = replayed(path)
    assert (compared.stage, compared.raised_on) == ("penalised", date(2024, 4, 10))


def test_where_the_log_names_no_amounts_no_payment_averts_a_penalty(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "A1,Create Fine,2024-01-08,,,",
        "A1,Insert Fine Notification,2024-02-10,,,",
        "A1,Payment,2024-03-01,,,",
        "A1,Add penalty,2024-04-10,,,",
    )
    _, [compared] = replayed(path)
    assert compared.verdict == "exact"


# -- a log that the rules do not explain ----------------------------------------------------------


@pytest.mark.parametrize(
    ("penalty", "said"),
    [
        ("A1,Add penalty,2024-04-11,,,", "missing: 0, early: 1, late: 0"),
        ("A1,Add penalty,2024-04-09,,,", "missing: 0, early: 0, late: 1"),
        ("A2,Add penalty,2024-04-10,,,", "missing: 1, early: 0, late: 0"),
        ("A1,Send for Credit Collection,2024-09-09,,,", "raised by rule, not in the log: 1"),
    ],
)
def test_a_difference_is_reported_and_not_explained_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], penalty: str, said: str
) -> None:
    path = log(tmp_path, "A1,Insert Fine Notification,2024-02-10,,,", penalty)
    assert main([str(path), "--store", "memory://"]) == 1
    assert said in capsys.readouterr().out.splitlines()


# -- reading --------------------------------------------------------------------------------------


def test_records_come_in_time_order_over_all_cases_and_in_file_order_within_an_instant(
    tmp_path: Path,
) -> None:
    path = log(
        tmp_path,
        "A2,Create Fine,2024-02-02 00:00:00+01:00,42,,",
        "A2,Send Fine,2024-02-02 00:00:00+01:00,,13.5,",
        "A1,Create Fine,2024-02-01T23:00:00+00:00,42,,",
        "A1,Send Fine,2024-02-01,,13.5,",
    )
    assert [(r.case, r.activity, r.day) for r in read_log(path)] == [
        ("A1", "Send Fine", date(2024, 2, 1)),
        ("A2", "Create Fine", date(2024, 2, 2)),
        ("A2", "Send Fine", date(2024, 2, 2)),
        ("A1", "Create Fine", date(2024, 2, 2)),
    ]


@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz"])
@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.xes-standard.org/"'])
def test_xes_is_read_with_and_without_a_namespace(
    tmp_path: Path, name: str, namespace: str
) -> None:
    text = f"""<?xml version="1.0"?><log{namespace}><trace>
        <string key="concept:name" value="A1"/>
        <event><string key="concept:name" value="Create Fine"/>
            <date key="time:timestamp" value="2024-02-01T00:00:00.000+01:00"/>
            <float key="amount" value="42.0"/></event>
        <event><string key="concept:name" value="Add penalty"/>
            <date key="time:timestamp" value="2024-05-01T00:00:00"/></event>
        </trace></log>""".encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    created, penalty = read_log(path)
    assert (created.case, created.day) == ("A1", date(2024, 2, 1))
    assert created.event == Created.model_validate({"amount": "42.0"})
    assert penalty.event is None
    assert penalty.at.utcoffset() == datetime(2024, 5, 1, tzinfo=ROME).utcoffset()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("A1,Fly,2024-02-10,,,", "line 2: 'Fly' is no activity of this process"),
        ("A1,Payment,soon,,,", "line 2: Invalid isoformat string: 'soon'"),
        ("A1,Payment,2024-02-10,,,much", "line 2: an amount is no number"),
        (",Payment,2024-02-10,,,1", "line 2: it belongs to no case"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    path = log(tmp_path, line)
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == f"{path}, {said}\n"


def test_a_file_that_is_no_log_is_refused_with_the_reason(tmp_path: Path) -> None:
    empty = log(tmp_path)
    other = tmp_path / "log.csv.txt"
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    broken = tmp_path / "broken.xes.gz"
    broken.write_bytes(gzip.compress(b"<log><trace>")[:-4])
    for path, said in [
        (tmp_path / "none.csv", "No such file"),
        (empty, "holds no events"),
        (other, r"give a \.csv, \.xes or \.xes\.gz file"),
        (table, "has no column case:concept:name, concept:name, time:timestamp"),
        (broken, "cannot be read"),
    ]:
        with pytest.raises(LogError, match=said):
            read_log(path)


def test_a_case_that_is_not_in_the_log_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", "Z9"]) == 2
    assert capsys.readouterr().err == f"{MADE_UP} has no case Z9\n"


# -- the real log ---------------------------------------------------------------------------------


@needs_the_real_log
@pytest.mark.parametrize(
    ("path", "cases", "events", "penalties"),
    [(CSV, 100, 390, 57), (XES, 231, 1_891, 210)],
    ids=["100 cases", "one case of each variant"],
)
def test_every_penalty_of_the_real_log_is_raised_on_its_very_day(
    tmp_path: Path, path: Path, cases: int, events: int, penalties: int
) -> None:
    records, compared = replayed(path, f"sqlite:///{tmp_path}/fines.db")
    assert (len(records), len(compared)) == (events, cases)
    raised = {each.case: each.raised_on for each in compared if each.raised_on is not None}
    in_the_log = {r.case: r.day for r in records if r.event is None}
    assert len(in_the_log) == penalties
    assert raised == in_the_log
    assert {each.verdict for each in compared} == {"exact", "none"}


@needs_the_real_log
def test_the_command_line_reports_the_real_log_and_shows_any_case_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_memory = ["--store", "memory://"]
    assert main([str(XES), *in_memory]) == 0
    report = capsys.readouterr().out.splitlines()
    assert "raised on the exact day: 210 of 210 in the log" in report
    assert "raised by rule, not in the log: 0" in report
    assert main([str(XES), "--case", "A10001", *in_memory]) == 0
    days = [line[2:12] for line in capsys.readouterr().out.splitlines()[1:] if line[2] != " "]
    assert days == [
        "2007-03-19",
        "2007-07-17",
        "2007-07-25",
        "2007-08-02",
        "2007-09-23",
        "2007-09-24",
    ]
