"""wakelog in FastAPI: opened and closed by the lifespan, one app for each process.

uvicorn examples.embedding.fastapi_app:api --workers 2
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from examples.embedding.shop import URL, Order, Placed, jobs, order
from wakelog import App, BlockingApp
from wakelog_adapters.web.starlette import answer_errors


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncGenerator[None]:
    async with jobs.open(URL, worker=True, grace="5s") as app:
        api.state.wakelog = app
        yield


api = FastAPI(lifespan=lifespan)
answer_errors(api)


def opened(request: Request) -> App:
    app: App = request.app.state.wakelog
    return app


def blocking(app: Annotated[App, Depends(opened)]) -> BlockingApp:
    return app.blocking


@api.put("/orders/{id}", status_code=202)
async def place(id: str, event: Placed, app: Annotated[App, Depends(opened)]) -> bool:
    return (await app.task(order).send(id, event)).created


@api.get("/orders/{id}")
def show(id: str, app: Annotated[BlockingApp, Depends(blocking)]) -> Order | None:
    """A `def` endpoint runs in a thread: there the app is `app.blocking`."""
    return app.task(order).get_state(id)


@api.get("/orders/{id}/history")
async def history(id: str, app: Annotated[App, Depends(opened)]) -> list[str]:
    return [entry.description for entry in await app.history(f"task:order:{id}")]


@api.get("/health")
async def health() -> int:
    """The process answers."""
    return os.getpid()


@api.get("/ready")
async def ready(app: Annotated[App, Depends(opened)]) -> list[str]:
    """The store answers, or else this is a 503; the names of the workers."""
    return [worker.name for worker in await app.workers() if worker.alive]
