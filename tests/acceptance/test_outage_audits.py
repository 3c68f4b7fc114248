"""The audits after a storm of outages find what they are there for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.jobs_in_outages import NEW, versions
from tests.acceptance.jobs_under_kill import Done, now_us
from tests.acceptance.linearizable import Call
from tests.acceptance.outage_audits import Figures, Histories, Seen, check
from tests.acceptance.processes import Said
from tests.auditing import audit_all
from tests.support import WAIT_S

SENDS = 3
Storm = tuple[Histories, dict[str, Done | None], Seen]


@pytest.fixture
def storm(capsys: pytest.CaptureFixture[str]) -> Storm:
    """One in which nothing happened: some runs of one instance, one after the other."""
    jobs, chore, *_ = versions[NEW]
    seen = Seen()
    with jobs.open("memory://", worker=True) as app:
        for number in range(1, SENDS + 1):
            asked_us = now_us()
            event = {"number": number, "work_s": 0.01}
            total = app.task(chore).send("c-0", event, wait=False).event_count
            seen.calls.append(Call("c-0", number, asked_us, now_us(), total))
            while (status := app.task(chore).status("c-0")).status != "idle" or status.executing:
                assert now_us() < asked_us + WAIT_S * 1_000_000
        histories = audit_all(app.app.application.store)
        states = {"task:chore:c-0": app.task(chore).get_state("c-0")}
    seen.notes = [Said.of(line) for line in capsys.readouterr().out.splitlines()]
    return histories, states, seen


def checked(storm: Storm) -> Figures:
    figures = Figures(0, 0)
    check(*storm, figures)
    return figures


def test_a_calm_storm_passes(storm: Storm) -> None:
    figures = checked(storm)
    assert (figures.runs, figures.acknowledged, figures.lost_attempts) == (SENDS, SENDS, {})


def again(note: Said, *, run: int = 0, at_us: int = 0, pid: int = 0) -> Said:
    """The same line, but for what is given."""
    return Said(
        note.what, note.id, run or note.run, note.attempt, at_us or note.at_us, pid or note.pid
    )


def overlap(seen: Seen) -> None:
    first, second = [note for note in seen.notes if note.what == "run"][:2]
    seen.notes[seen.notes.index(second)] = again(second, at_us=first.at_us + 1)


def run_in_two_places(seen: Seen) -> None:
    seen.notes.append(again(seen.notes[0], pid=1))


def run_unrecorded(seen: Seen) -> None:
    seen.notes += [again(seen.notes[0], run=9), again(seen.notes[-1], run=9)]


def forget_a_run(seen: Seen) -> None:
    seen.notes = [note for note in seen.notes if note.run != 2]


def lose_a_send(seen: Seen) -> None:
    seen.calls.append(Call("c-0", SENDS + 1, 1, now_us(), SENDS + 1))


def refuse_what_is_recorded(seen: Seen) -> None:
    seen.calls[0] = Call("c-0", 1, seen.calls[0].invoked_us, None, errors=("unreachable",))


def answer_too_much(seen: Seen) -> None:
    first = seen.calls[0]
    seen.calls[0] = Call("c-0", 1, first.invoked_us, first.answered_us, SENDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (overlap, "ran at once"),
        (run_in_two_places, "in two places"),
        (run_unrecorded, "not recorded"),
        (forget_a_run, "no worker has begun"),
        (lose_a_send, "acknowledged, and not recorded"),
        (refuse_what_is_recorded, "said not to be recorded"),
        (answer_too_much, "it was number"),
    ],
)
def test_what_is_wrong_is_found(storm: Storm, change: Callable[[Seen], None], message: str) -> None:
    change(storm[2])
    with pytest.raises(AssertionError, match=message):
        checked(storm)
