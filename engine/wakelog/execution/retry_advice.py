"""What user code decides about another attempt: its exception, and its policy's functions."""

from __future__ import annotations

import logging

from wakelog.core.retry import Advice, Backoff, GiveUp, Retry, RetryAfter
from wakelog.core.time import duration_us
from wakelog.errors import quoted
from wakelog.functions import plain_result

__all__ = ["advice", "cause_of"]

_LOG = logging.getLogger("wakelog.call")


def cause_of(raised: BaseException) -> BaseException:
    """The failure itself: the cause of a `RetryAfter` or `GiveUp`, if it has one. A text is not a
    failure: it is part of the message of the signal itself."""
    if not isinstance(raised, RetryAfter | GiveUp):
        return raised
    named = raised.cause if isinstance(raised.cause, BaseException) else raised.__cause__
    return raised if named is None else named


def advice(retry: Retry | None, raised: BaseException, attempt: int) -> Advice:
    """The advice for attempt `attempt`, which raised `raised`.

    If a function of the policy raises, there is no other attempt, and its exception is logged.
    """
    if isinstance(raised, GiveUp):
        return Advice(gives_up=True)
    if isinstance(raised, RetryAfter):
        return Advice(after_us=duration_us(raised.delay))
    if retry is None:
        return Advice()
    try:
        delay_us = None
        if not isinstance(retry.delay, Backoff) and callable(retry.delay):
            delay_us = duration_us(
                plain_result(retry.delay(attempt)), "the delay of a retry policy"
            )
        return Advice(retryable=_is_retryable(retry, cause_of(raised)), delay_us=delay_us)
    except BaseException:  # including `SystemExit`: it must not end the worker
        _LOG.exception("a function of a retry policy failed: there is no other attempt")
        return Advice(retryable=False)


def _is_retryable(retry: Retry, error: BaseException) -> bool:
    wanted = retry.retry_if
    if wanted is None:
        return True
    if callable(wanted) and not isinstance(wanted, type):
        answer = plain_result(wanted(error))
        if not isinstance(answer, bool):
            raise TypeError(f"retry_if returned {quoted(answer)}: return True or False")
        return answer
    return isinstance(error, wanted)
