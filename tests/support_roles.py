"""The roles of docs/deploying.md: they have less than the owner of the schema."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from tests.support_postgres import bare_connection
from wakelog_adapters.postgres.url import parse

__all__ = ["ROLES", "as_role", "drop_roles", "make_roles"]

PAGE = Path(__file__).parents[1] / "docs/deploying.md"
ROLES = ("jobs_worker", "jobs_client", "jobs_reader")
"""Those to which its script gives rights."""


def make_roles(url: str, *names: str) -> dict[str, str]:
    """Make them, with their rights on a store whose schema is there; their URLs, by name."""
    schema = parse(url).schema
    script = re.findall(r"```sql\n(GRANT.*?)```", PAGE.read_text(), re.DOTALL)
    with bare_connection(url) as owner:
        for name in names:
            owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        for statement in "".join(script).replace("SCHEMA jobs", f"SCHEMA {schema}").split(";"):
            text = re.sub(r"\bjobs\.", f"{schema}.", statement)
            if text.strip():
                owner.execute(text.encode())
    return {name: as_role(url, name) for name in names}


def drop_roles(url: str, *names: str) -> None:
    with bare_connection(url) as owner:
        for name in names:
            owner.execute(f"DROP OWNED BY {name}".encode())
            owner.execute(f"DROP ROLE {name}".encode())


def as_role(url: str, name: str) -> str:
    """The URL of the same store for another user."""
    user, _, server = urlsplit(url).netloc.rpartition("@")
    return url.replace(f"//{user}@{server}", f"//{name}@{server}", 1)
