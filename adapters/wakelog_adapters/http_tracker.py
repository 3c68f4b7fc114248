"""Posts what happens to jobs to an HTTP endpoint (A8). For `jobs.track`.

jobs.track(HttpTracker("https://events.example.com/ingest", token="…"), env="production")
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from wakelog.errors import Issue, ValidationError

__all__ = ["HttpTracker"]

BATCH = 500
"""Events of one request, at most: an endpoint may bound what it takes."""


class HttpTracker:
    """A publisher that posts JSON: `{"events": [...]}`, up to 500 at a time, in order."""

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """`token` is sent as a bearer token. Raises `ValidationError` for what is no HTTP URL."""
        if urlsplit(endpoint).scheme not in ("http", "https"):
            issue = Issue(loc="endpoint", msg="expected http://… or https://…", type="url")
            raise ValidationError("endpoint of a tracker", [issue])
        self._endpoint = endpoint
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        parts = urlsplit(self._endpoint)
        return f"HttpTracker({parts.scheme}://{parts.hostname})"

    def publish(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Raises `OSError` if the endpoint does not answer in time, or with another status than
        2xx, a redirect too: the batch comes again, from its beginning."""
        for first in range(0, len(batch), BATCH):
            body = json.dumps({"events": [*batch[first : first + BATCH]]}, ensure_ascii=False)
            self._post(body.encode())

    def _post(self, body: bytes) -> None:
        request = Request(self._endpoint, body, {**self._headers}, method="POST")
        try:
            with _OPENER.open(request, timeout=self._timeout_s):
                return
        except HTTPError as error:
            with error:
                moved = error.headers.get("Location")
                advice = f": give the address that it names, {moved}" if moved else ""
                raise ConnectionError(f"{self!r} answered {error.code}{advice}") from None
        except HTTPException as error:
            raise ConnectionError(f"{self!r} gave no HTTP answer: {error!r}") from error


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would be a GET without the events, and take the token to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer is an error."""


_OPENER = build_opener(_NoRedirects)
