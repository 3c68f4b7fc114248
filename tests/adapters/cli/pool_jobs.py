"""A worker pool for the tests of the command line: letters, some of which cannot be delivered."""

from __future__ import annotations

from pydantic import BaseModel

from wakelog import Backoff, Jobs, Retry, WorkerPool, WorkerPoolContext


class Letter(BaseModel):
    to: str


letters = WorkerPool(
    event=Letter,
    concurrency=2,
    retry=Retry(max_attempts=2, delay=Backoff.constant("1m")),
    keep_results=True,
)


@letters.execute
def deliver(ctx: WorkerPoolContext, letter: Letter) -> str:
    if letter.to == "nobody":
        raise LookupError("no such address")
    return f"with {letter.to}"


cards = WorkerPool(event=int)


@cards.execute
def print_card(ctx: WorkerPoolContext, number: int) -> None: ...


jobs = Jobs(letters=letters, cards=cards)
