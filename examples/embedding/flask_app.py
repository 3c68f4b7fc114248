"""wakelog in Flask under gunicorn, which forks: an app for each process, opened when it is needed.

gunicorn --preload --workers 2 --config python:examples.embedding.gunicorn_conf \
    examples.embedding.flask_app:web
"""

from __future__ import annotations

import os
from functools import cache

from flask import Flask, Response, jsonify, request

from examples.embedding.shop import URL, Placed, jobs, order
from wakelog import BlockingApp, WakelogError
from wakelog_adapters.web import problem_of, status_of

web = Flask(__name__)


@cache
def app_of(pid: int) -> BlockingApp:
    """What a process has inherited is another one's: each opens its own."""
    return jobs.open_blocking(URL, worker=True, grace="5s")


def app() -> BlockingApp:
    return app_of(os.getpid())


@web.put("/orders/<id>")
def place(id: str) -> tuple[Response, int]:
    sent = app().task(order).send(id, Placed.model_validate_json(request.get_data()))
    return jsonify(sent.created), 202


@web.get("/orders/<id>")
def show(id: str) -> Response:
    found = app().task(order).get_state(id)
    return jsonify(found and found.model_dump())


@web.get("/orders/<id>/history")
def history(id: str) -> Response:
    return jsonify([entry.description for entry in app().history(f"task:order:{id}")])


@web.get("/health")
def health() -> Response:
    return jsonify(os.getpid())


@web.get("/ready")
def ready() -> Response:
    return jsonify([worker.name for worker in app().workers() if worker.alive])


@web.errorhandler(WakelogError)
def answer(error: WakelogError) -> tuple[Response, int]:
    return jsonify(problem_of(error)), status_of(error)
