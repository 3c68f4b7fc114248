"""Fixtures of the tests that need a PostgreSQL server."""

from __future__ import annotations

from tests.support_postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]
