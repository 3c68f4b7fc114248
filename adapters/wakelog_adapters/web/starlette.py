"""wakelog's errors as answers of a Starlette or FastAPI application."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wakelog.errors import WakelogError
from wakelog_adapters.web.statuses import PROBLEM_JSON, RETRY_AFTER_S, problem_of, status_of

__all__ = ["answer_errors"]

_LOG = logging.getLogger("wakelog.web")


def answer_errors(application: Starlette) -> None:
    """Answer each `WakelogError` that an endpoint raises with its status and a problem document.

    What is a fault of the service, or of what it needs, is logged with its traceback.
    """
    application.add_exception_handler(WakelogError, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, WakelogError)
    status = status_of(error)
    if status >= 500:
        _LOG.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return JSONResponse(problem_of(error), status, headers, media_type=PROBLEM_JSON)
