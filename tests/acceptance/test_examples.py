"""The examples run as they are shown, and print what they are said to print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IN_A_STORE = """\
created task:order:o-17
status: active
history: Started, EventReceived, StateSet, Scheduled
"""

IN_VIRTUAL_TIME = """\
two hours pass:
  (mail: please pay o-17)
  (mail: please pay o-17)
status: idle
alarms left: 0
   1  2026-03-02 09:00:00  life began
   2  2026-03-02 09:00:00  received event {"kind":"placed"}
   3  2026-03-02 09:00:00  state set to {"status":"pending"}
   4  2026-03-02 09:00:00  scheduled a run at 2026-03-02 09:05:00 UTC
   5  2026-03-02 09:05:00  run 1 started (alarm) on simulation
   6  2026-03-02 09:05:00  step 'mail' of run 1 ended with null
   7  2026-03-02 09:05:00  run 1 ended well after 0 ms
   8  2026-03-02 09:05:00  scheduled a run at 2026-03-02 10:05:00 UTC
   9  2026-03-02 10:05:00  run 2 started (alarm) on simulation
  10  2026-03-02 10:05:00  step 'mail' of run 2 ended with null
  11  2026-03-02 10:05:00  run 2 ended well after 0 ms
  12  2026-03-02 10:05:00  scheduled a run at 2026-03-02 11:05:00 UTC
  13  2026-03-02 11:00:00  received event {"kind":"paid"} (by till 3)
  14  2026-03-02 11:00:00  state set to {"status":"paid"} (by till 3)
  15  2026-03-02 11:00:00  cancelled the schedule (by till 3)
"""


REFRESHED = """\
09:00:00  run 1, attempt 1: token 1
next run: 09:14:00
09:14:00  run 2, attempt 1: token 2
09:28:15  run 3, attempt 3: token 5
09:42:15  run 4, attempt 1: token 6
active, 4 runs, 2 failures
callers see: ****, until 09:57:15
stopped: the account is closed
alarms left: 0
"""

REPORTED = """\
reports: last=datetime.date(2026, 12, 31) sent=365
in spring: 2026-03-29 03:00:00+02:00
in autumn: 2026-10-25 02:30:00+02:00
next: 2027-01-01 01:30:00+00:00
"""

CHAINED = """\
an order is placed:
  the worker is killed
  the worker is killed
  09:01 charged 12
  09:01 mailed 'o-17: thank you'
the parcel service is back:
  10:01 shipped to Ada: P-6
  10:01 mailed 'o-17: on its way as P-6'
order: shipped as P-6
what it has sent:
  sent {"amount":12} to task:payment:o-17: delivered
  sent {"to":"Ada"} to task:shipment:o-17: delivered
  sent "o-17: thank you" to workerPool:mails: delivered
  sent "o-17: on its way as P-6" to workerPool:mails: delivered
"""

FOLLOWED = """\
A1: paid
A2: expired
19:00  life began
19:00  accepted event "reserved", to be handled later
19:00  handled the event accepted as 2
19:00  state set to "held"
19:00  scheduled a run at 2026-03-02 19:15:00 UTC
19:15  run 1 started (alarm) on simulation
19:15  run 1 ended well after 0 ms
19:15  cleared by handler: expired
"""

IN_BATCHES = """\
a burst of three, and one of five:
  the fifth of zeta is the first of a new window: True
  00:00  zeta: 4 events (max_events): {'tea': 1.0, 'milk': 1.0, 'rice': 1.0, 'salt': 1.0}
  00:05  acme: 3 events (flush_after): {'tea': 9.0}
  00:05  zeta: 1 events (flush_after): {'soap': 1.0}
the receiver is down, and events go on coming:
  00:11  acme: 1 events (flush_after): not delivered, attempt 1
  accepted meanwhile: True, status: retrying
  00:16  acme: 1 events (flush_after): {'milk': 2.0}
  00:17  acme: 1 events (flush_after): {'milk': 3.0}
ann does not want to wait:
  00:18  acme: 1 events (manual): {'tea': 8.5}
  flushed: True (manual)
  flushed: False (empty)
"""

FROM_A_POOL = """\
a newsletter of big, and then two mails of small:
  pending: 303
  09:00 on the desk: typo@example.org (UnknownAddressError, 1)
  after half a minute: 2 of small, 97 of big
  accepted at 09:00
  302 mails sent from 09:00 to 09:03
the provider is down for an hour:
  why: its next attempt is at 2026-03-02 09:13:30 UTC after ProviderDownError: no answer
  09:17 on the desk: cyd (ProviderDownError, 4)
  09:17 on the desk: dan (ProviderDownError, 4)
the desk:
  UnknownAddressError: 1
  ProviderDownError: 2
  requeued receipt-cyd, receipt-dan; dropped 1
  processed: 304, dead: 0, dropped: 1
  09:17 dead-lettered after 4 attempts (handler failed: ProviderDownError: no answer)
  10:10 requeued: it waits again
  10:10 taken by simulation, attempt 1
  10:10 ended well after 0 ms with "accepted at 10:10"
"""


def run(*arguments: str, folder: Path, name: str = "orders.py") -> str:
    """What an example prints, run as a user would, without any warning of Python's. What fails in
    its story is logged."""
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Warning" not in ran.stderr
    return ran.stdout


def test_the_order_reminds_its_customer_until_it_is_paid(tmp_path: Path) -> None:
    printed = run(folder=tmp_path)
    assert printed == f"{IN_A_STORE}\n{IN_VIRTUAL_TIME}"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_with_a_url_the_order_is_kept_and_met_again(tmp_path: Path) -> None:
    first = run("sqlite:///orders.db", folder=tmp_path)
    again = run("sqlite:///orders.db", folder=tmp_path)
    assert first.startswith(IN_A_STORE)
    assert again.startswith("known already task:order:o-17\nstatus: active\n")
    more = "EventReceived, StateSet, Scheduled"
    assert f"history: Started, {more}, {more}\n" in again


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("token_refresher.py", REFRESHED),
        ("daily_report.py", REPORTED),
        ("webhook_batcher.py", IN_BATCHES),
        ("email_pool.py", FROM_A_POOL),
        ("order_chain.py", CHAINED),
        ("cqrs_service.py", FOLLOWED),
    ],
)
def test_other_jobs_in_virtual_time(name: str, prints: str, tmp_path: Path) -> None:
    """A token that says when it is to be renewed, over an outage; a year of nights in Berlin, over
    both changes of its clock; webhooks in batches, over an outage of their receiver; mails of
    several tenants, over an outage of their provider; an order that charges, ships and notifies;
    the bookings of another application."""
    assert run(folder=tmp_path, name=name) == prints


def test_E3_sqlalchemy_comes_by_resources_and_shares_the_database() -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.embedding.sqlalchemy_service"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "ann: 2, bob: 1\n"), ran.stderr


@pytest.mark.parametrize(
    "name",
    [
        *("orders.py", "token_refresher.py", "daily_report.py", "webhook_batcher.py"),
        *("email_pool.py", "order_chain.py", "cqrs_service.py"),
        "traffic_fines/fine.py",
    ],
)
def test_an_example_uses_only_the_public_words(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    imported = [line for line in text.splitlines() if line.startswith(("from wake", "import wake"))]
    assert imported
    assert all(
        line.startswith(("from wakelog import ", "from wakelog.testing ")) for line in imported
    )
