"""Which HTTP status an error is, and what its body says (RFC 9457, `application/problem+json`)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from wakelog import errors
from wakelog.errors import RequestError, ValidationError, WakelogError

__all__ = ["PROBLEM_JSON", "RETRY_AFTER_S", "problem_of", "status_of"]

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 1
"""What a 503 and a 429 advise the caller to wait."""

STATUSES: dict[type[WakelogError], HTTPStatus] = {
    errors.ValidationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownJobError: HTTPStatus.NOT_FOUND,
    errors.UnknownJobTypeError: HTTPStatus.NOT_FOUND,
    errors.InstanceNotFoundError: HTTPStatus.NOT_FOUND,
    errors.IdempotencyConflictError: HTTPStatus.CONFLICT,
    errors.UnknownActionError: HTTPStatus.CONFLICT,
    errors.QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.WaitTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ConflictError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ThreadsExhaustedError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""By the nearest class of an error; any other is a fault of the service: 500."""


def status_of(error: WakelogError) -> int:
    """The HTTP status of an error."""
    found = (STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
    return int(next(found, HTTPStatus.INTERNAL_SERVER_ERROR))


def problem_of(error: WakelogError) -> dict[str, Any]:
    """The body of the answer, to be sent as `PROBLEM_JSON`.

    `type` is the name of the class, by which a caller tells errors apart. The words of an error
    that is not about the request stay in the service's own log: they may show what is behind it.
    """
    status = HTTPStatus(status_of(error))
    problem: dict[str, Any] = {"type": type(error).__name__, "status": int(status)}
    problem["title"] = status.phrase
    if isinstance(error, RequestError) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        problem["detail"] = str(error)
    if isinstance(error, ValidationError):
        problem["issues"] = list(error.issues)
    return problem
