"""The jobs of the site; their handlers use its models."""

from __future__ import annotations

from pydantic import BaseModel

from wakelog import Jobs, Task, TaskContext


class Placed(BaseModel):
    item: str


order = Task(state=str, event=Placed)


@order.on_event
def placed(ctx: TaskContext[str], event: Placed) -> None:
    ctx.set_state("placed")
    ctx.schedule(0)


@order.execute
def confirm(ctx: TaskContext[str]) -> None:
    """A `def` runs in a thread: there the ORM is as usual. A run may be repeated after a crash."""
    from examples.embedding.django_site.models import Confirmation

    Confirmation.objects.get_or_create(order=ctx.id)
    ctx.set_state("confirmed")


jobs = Jobs(order=order)
