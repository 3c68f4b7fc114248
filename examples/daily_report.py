"""A report each night at 02:30 in Berlin. Run it: python examples/daily_report.py

In the night in which the clocks go forward there is no 02:30: the report runs right after the gap.
In the night in which they go back there are two: it runs once. A year in virtual time shows it.
"""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from wakelog import Continuous, ContinuousContext, Jobs
from wakelog.testing import Simulation

BERLIN = ZoneInfo("Europe/Berlin")


class Report(BaseModel):
    last: date | None = None
    sent: int = 0


report = Continuous(
    state=Report,
    cron="30 2 * * *",
    timezone="Europe/Berlin",
    start_immediately=False,
    catch_up="once",
)


@report.execute
async def send(ctx: ContinuousContext[Report]) -> None:
    today = ctx.scheduled_for.astimezone(BERLIN).date()
    # write the report and send it here
    sent = ctx.state.sent if ctx.state else 0
    ctx.set_state(Report(last=today, sent=sent + 1))


jobs = Jobs(report=report)


def main() -> None:
    """The year 2026, night by night."""
    with Simulation(jobs, start=datetime(2026, 1, 1, tzinfo=BERLIN)) as sim:
        client = sim.continuous(report)
        client.start("sales", Report())
        sim.advance_to(datetime(2027, 1, 1, tzinfo=BERLIN))
        print("reports:", client.get_state("sales"))
        runs = [
            entry.at.astimezone(BERLIN)
            for entry in sim.history("continuous:report:sales")
            if entry.event == "RunStarted"
        ]
        assert len({run.date() for run in runs}) == len(runs) == 365
        odd = [run for run in runs if (run.hour, run.minute) != (2, 30)]
        print("in spring:", *odd)
        print("in autumn:", *(run for run in runs if run.date() == date(2026, 10, 25)))
        print("next:", client.status("sales").next_run_at)


if __name__ == "__main__":
    main()
