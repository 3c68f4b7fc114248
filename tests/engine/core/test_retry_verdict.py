"""The one place that judges a failed attempt, on plain values (R1 to R3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wakelog import Backoff, GiveUp, Retry, RetryAfter, ValidationError
from wakelog.core.retry import MAX_DELAY_US, Advice, Again, Over, judge
from wakelog.execution.retry_advice import advice
from wakelog.functions import plain_result

SECOND = 1_000_000
NOW = 1_000_000 * SECOND

durations = st.one_of(
    st.integers(0, 10**7), st.floats(0, 10**7), st.timedeltas(timedelta(0), timedelta(days=900))
)
backoffs = st.one_of(
    st.builds(Backoff.constant, durations),
    st.builds(Backoff.linear, durations, durations, st.none() | durations),
    st.builds(Backoff.exponential, durations, st.floats(1, 1000), st.none() | durations),
)
attempts = st.integers(1, 10**6)


def seconds(backoff: Backoff, *attempts: int) -> list[float]:
    return [backoff.delay_us(attempt) / SECOND for attempt in attempts]


def verdict(retry: Retry | None, attempt: int = 1, *, first_us: int = NOW, **said: Any) -> Any:
    return judge(retry, Advice(**said), attempt, first_us, NOW, "seed")


# -- delays ----------------------------------------------------------------------------------------


def test_R1_the_delays_of_the_presets() -> None:
    presets = [Retry.standard(), Retry.aggressive(), Retry.patient(), Retry.simple()]
    delays = [seconds(p.delay, 1, 2, 3, 100) for p in presets if isinstance(p.delay, Backoff)]
    assert delays == [[1, 2, 4, 30], [0.1, 0.2, 0.4, 5], [5, 10, 20, 120], [1, 1, 1, 1]]
    assert (Retry().max_attempts, Retry.standard(7).max_attempts) == (3, 7)
    assert Retry.standard() == Retry()


def test_R1_backoffs() -> None:
    assert seconds(Backoff.constant("5s"), 1, 2, 1000) == [5, 5, 5]
    assert seconds(Backoff.linear("1s", "2s", "6s"), 1, 2, 3, 4, 10**9) == [1, 3, 5, 6, 6]
    assert seconds(Backoff.exponential("1s", 3, "20s"), 1, 2, 3, 4, 10**9) == [1, 3, 9, 20, 20]
    assert Retry(delay="5s").delay == Backoff.constant("5s")


def test_R1_no_delay_never_becomes_a_long_one() -> None:
    assert seconds(Backoff.exponential(0, 2), 1, 2, 1000) == [0, 0, 0]


@given(backoffs, attempts, attempts)
def test_R1_delays_are_bounded_and_never_shrink(backoff: Backoff, one: int, other: int) -> None:
    first, second = sorted((one, other))
    assert 0 <= backoff.delay_us(first) <= backoff.delay_us(second) <= backoff.max_us
    assert backoff.max_us <= MAX_DELAY_US


@given(backoffs, st.floats(0, 1), attempts, st.text())
def test_R2_jitter_keeps_to_its_share_and_to_its_seed(
    backoff: Backoff, jitter: float, attempt: int, seed: str
) -> None:
    retry = Retry(delay=backoff, jitter=jitter, max_attempts=attempt + 1)
    answers = {judge(retry, Advice(), attempt, NOW, NOW, seed) for _ in range(3)}
    [again] = answers
    assert isinstance(again, Again)
    delay_us, waited_us = backoff.delay_us(attempt), again.due_us - NOW
    assert 0 <= waited_us <= MAX_DELAY_US
    assert math.floor(delay_us * (1 - jitter)) - 1 <= waited_us
    assert waited_us <= math.ceil(delay_us * (1 + jitter)) + 1


def test_R2_jitter_spreads() -> None:
    retry = Retry(delay="10s", jitter=0.5)
    dues = {judge(retry, Advice(), 1, NOW, NOW, f"task:job:{n}") for n in range(50)}
    assert len(dues) > 40


# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "expected"), [(1, Again), (2, Again), (3, Over), (4, Over)])
def test_R2_max_attempts_counts_all_executions(attempt: int, expected: type) -> None:
    assert type(verdict(Retry(max_attempts=3), attempt)) is expected


def test_R2_max_duration_counts_from_the_first_attempt_and_before_the_next() -> None:
    retry = Retry(max_attempts=9, delay="10s", jitter=0, max_duration="60s")
    assert verdict(retry, first_us=NOW - 50 * SECOND) == Again(NOW + 10 * SECOND)
    assert verdict(retry, first_us=NOW - 50 * SECOND - 1) == Over("max_duration")
    assert verdict(retry, first_us=NOW, after_us=61 * SECOND) == Over("max_duration")


def test_R3_advice_overrules_the_policy_but_not_its_bounds() -> None:
    retry = Retry(max_attempts=3)
    assert verdict(retry, gives_up=True) == Over("not_retryable")
    assert verdict(retry, retryable=False) == Over("not_retryable")
    assert verdict(retry, after_us=7) == Again(NOW + 7)
    assert verdict(retry, retryable=False, after_us=7) == Again(NOW + 7)
    assert verdict(retry, 3, after_us=7) == Over("max_attempts")


def test_R3_advice_without_a_policy() -> None:
    assert verdict(None) is None
    assert verdict(None, gives_up=True) is None
    assert verdict(None, 1_000, after_us=7) == Again(NOW + 7)


@given(
    st.none()
    | st.builds(Retry, max_attempts=st.integers(1, 5), max_duration=st.none() | durations),
    st.builds(Advice, st.booleans(), st.booleans(), st.none() | st.integers(0, MAX_DELAY_US)),
    st.integers(1, 7),
    st.integers(0, MAX_DELAY_US),
)
def test_R2_no_verdict_exceeds_a_bound(
    retry: Retry | None, said: Advice, attempt: int, ago_us: int
) -> None:
    answer = judge(retry, said, attempt, NOW - ago_us, NOW, "seed")
    if isinstance(answer, Again):
        assert answer.due_us >= NOW
        assert retry is None or attempt < retry.max_attempts
        longest_us = None if retry is None else retry.max_duration_us
        assert longest_us is None or answer.due_us - (NOW - ago_us) <= longest_us
    elif isinstance(answer, Over):
        assert retry is not None


# -- what is worth a retry -------------------------------------------------------------------------


class Cross(Exception):
    """Whatever user code raises."""


def is_worth_it(error: BaseException) -> bool:
    return "worth" in str(error)


@pytest.mark.parametrize(
    ("retry_if", "error", "expected"),
    [
        (None, Cross(), True),
        (None, SystemExit(), True),
        (OSError, TimeoutError(), True),
        (OSError, Cross(), False),
        ((OSError, Cross), Cross(), True),
        ((), Cross(), False),
        (is_worth_it, Cross("worth it"), True),
        (is_worth_it, Cross("lost"), False),
    ],
)
def test_R1_retry_if(retry_if: Any, error: BaseException, expected: bool) -> None:
    assert advice(Retry(retry_if=retry_if), error, 1).retryable is expected


@pytest.mark.parametrize("wrong", [Cross("again"), SystemExit(1)])
def test_R1_a_function_of_the_policy_that_fails_says_no(
    wrong: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: object) -> Any:
        raise wrong

    error = Cross()
    assert advice(Retry(retry_if=fails), error, 1) == Advice(retryable=False)
    assert advice(Retry(delay=fails), error, 1) == Advice(retryable=False)
    assert advice(Retry(delay=lambda attempt: -1), error, 1) == Advice(retryable=False)
    assert caplog.text.count("a function of a retry policy failed") == 3


def test_I5_a_function_of_the_policy_that_cannot_answer_is_refused_where_it_is_written() -> None:
    class Called:
        async def __call__(self, error: BaseException) -> bool:
            return False

    async def asks(_: object) -> bool:
        return False

    def yields(_: object) -> Any:
        yield False

    unfit: list[Any] = [
        asks,
        functools.partial(asks),
        Called(),
        yields,
        lambda: True,
        lambda a, b: 1,
    ]
    for fn in unfit:
        with pytest.raises(ValidationError, match=r"retry_if .*must (be|return|take)"):
            Retry(retry_if=fn)
        with pytest.raises(ValidationError, match=r"delay .*must (be|return|take)"):
            Retry(delay=fn)


def test_I5_a_function_that_returns_a_coroutine_says_no(caplog: pytest.LogCaptureFixture) -> None:
    async def asks() -> bool:
        return True

    policies: list[Any] = [{"retry_if": lambda error: asks()}, {"delay": lambda attempt: asks()}]
    for policy in policies:
        assert advice(Retry(**policy), Cross(), 1) == Advice(retryable=False)
    assert caplog.text.count("TypeError: the function returned a coroutine") == 2


@pytest.mark.parametrize("answer", [(x for x in "ab"), None, 1, "yes", object()], ids=type)
def test_I5_a_retry_if_that_answers_neither_yes_nor_no_says_no(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert advice(Retry(retry_if=lambda error: answer), Cross(), 1) == Advice(retryable=False)
    assert "TypeError" in caplog.text


def test_R1_a_function_may_say_the_delay() -> None:
    retry = Retry(delay=lambda attempt: f"{attempt}m", jitter=0, max_attempts=9)
    said = advice(retry, Cross(), 3)
    assert judge(retry, said, 3, NOW, NOW, "") == Again(NOW + 180 * SECOND)


def test_R3_signals_say_what_they_say() -> None:
    retry, error = Retry(retry_if=OSError), Cross()
    assert advice(retry, RetryAfter("30s", error), 1) == Advice(after_us=30 * SECOND)
    assert advice(None, RetryAfter(0.5), 1) == Advice(after_us=SECOND // 2)
    assert advice(retry, GiveUp(error), 1) == Advice(gives_up=True)
    assert (str(GiveUp()), str(GiveUp(Cross("why")))) == ("not to be retried", "why")
    assert str(RetryAfter("30s", Cross("why"))) == "retry after 30s: why"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"delay": -1},
        {"delay": "soon"},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": math.nan},
        {"jitter": "0.1"},
        {"max_duration": -1},
        {"retry_if": "OSError"},
        {"retry_if": int},
        {"retry_if": (OSError, is_worth_it)},
        {"on_exhausted": "explode"},
    ],
)
def test_R1_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Retry(**wrong)


@pytest.mark.parametrize("factor", [0.5, math.inf, math.nan, 1001, True, "2"])
def test_R1_a_factor_that_makes_no_sense_is_refused(factor: Any) -> None:
    with pytest.raises(ValidationError):
        Backoff.exponential("1s", factor)


def test_R3_a_delay_that_is_none_is_refused_where_it_is_given() -> None:
    with pytest.raises(ValidationError):
        RetryAfter(-1)


class Later:
    """Something to be awaited that is no coroutine, as a future is."""

    def __await__(self) -> Iterator[None]:
        yield


def test_what_is_to_be_awaited_is_no_answer() -> None:
    with pytest.raises(TypeError, match="something to be awaited, a Later, which is not awaited"):
        plain_result(Later())
