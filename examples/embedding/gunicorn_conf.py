"""gunicorn's hooks: each process that it forks opens its own app, and closes it at the end."""

from __future__ import annotations

from typing import Any

preload_app = True


def post_worker_init(worker: Any) -> None:
    """In the forked process: open before the first request, not during it."""
    from examples.embedding.flask_app import app

    app()


def worker_exit(server: Any, worker: Any) -> None:
    """In the forked process, when it has served its last request."""
    from examples.embedding.flask_app import app

    app().close()
