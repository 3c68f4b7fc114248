"""What user code says about another attempt: its exception, and the functions of its policy."""

from __future__ import annotations

import logging

from wakelog.core.retry import Advice, Backoff, GiveUp, Retry, RetryAfter
from wakelog.core.time import duration_us

__all__ = ["advice", "cause_of"]

_LOG = logging.getLogger("wakelog.call")


def cause_of(raised: BaseException) -> BaseException:
    """The failure itself, behind a `RetryAfter` or `GiveUp` that names one. A text is none: it
    says why in the signal's own words."""
    if not isinstance(raised, RetryAfter | GiveUp):
        return raised
    named = raised.cause if isinstance(raised.cause, BaseException) else raised.__cause__
    return raised if named is None else named


def advice(retry: Retry | None, raised: BaseException, attempt: int) -> Advice:
    """The advice for attempt `attempt`, which raised `raised`.

    A function of the policy that itself fails says no: what is wrong with it is logged.
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
            delay_us = duration_us(retry.delay(attempt), "the delay of a retry policy")
        return Advice(retryable=_is_retryable(retry, cause_of(raised)), delay_us=delay_us)
    except BaseException:  # `SystemExit` too: it must not end the worker
        _LOG.exception("a function of a retry policy failed: there is no other attempt")
        return Advice(retryable=False)


def _is_retryable(retry: Retry, error: BaseException) -> bool:
    wanted = retry.retry_if
    if wanted is None:
        return True
    if callable(wanted) and not isinstance(wanted, type):
        return bool(wanted(error))
    return isinstance(error, wanted)
