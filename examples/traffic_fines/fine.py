"""The job: one fine, from its creation to its penalty."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from wakelog import Jobs, Task, TaskContext

__all__ = ["PENALTY_AFTER", "ROME", "Created", "Fine", "Noted", "Notified", "Paid", "Sent", "jobs"]

ROME = ZoneInfo("Europe/Rome")
"""Where the municipality is: its deadlines count days of its own calendar."""

PENALTY_AFTER = timedelta(days=60)


class Fine(BaseModel):
    """The state of a fine. Money is in euros."""

    stage: Literal["open", "notified", "settled", "penalised"] = "open"
    penalty_on: date | None = None
    amount: Decimal | None = None
    """None if the log does not say: then no payment can be known to be the full one."""
    expense: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)

    @property
    def is_paid_in_full(self) -> bool:
        """Whether fine and expenses are covered."""
        return self.amount is not None and self.paid >= self.amount + self.expense


class Created(BaseModel):
    kind: Literal["Create Fine"] = "Create Fine"
    amount: Decimal | None = None


class Sent(BaseModel):
    kind: Literal["Send Fine"] = "Send Fine"
    expense: Decimal = Decimal(0)


class Notified(BaseModel):
    kind: Literal["Insert Fine Notification"] = "Insert Fine Notification"
    on: date


class Paid(BaseModel):
    kind: Literal["Payment"] = "Payment"
    amount: Decimal = Decimal(0)


class Noted(BaseModel):
    """An event that belongs to the history of a fine, but does not affect the penalty."""

    kind: Literal[
        "Insert Date Appeal to Prefecture",
        "Send Appeal to Prefecture",
        "Receive Result Appeal from Prefecture",
        "Notify Result Appeal to Offender",
        "Appeal to Judge",
        "Send for Credit Collection",
    ]


FineEvent = Created | Sent | Notified | Paid | Noted

fine = Task(state=Fine, event=FineEvent)


@fine.on_event
def recorded(ctx: TaskContext[Fine], event: FineEvent) -> None:
    state = ctx.state or Fine()
    match event:
        case Created():
            state.amount = event.amount
        case Sent():
            state.expense = event.expense
        case Paid():
            state.paid += event.amount
        case Notified() if state.stage == "open":
            state.stage = "notified"
            ctx.schedule(penalty_due(event.on))
        case _:
            """An appeal delays later steps, not the penalty, as in the real logs."""
    if state.is_paid_in_full and state.stage in ("open", "notified"):
        state.stage = "settled"
        ctx.cancel_schedule()
    ctx.set_state(state)


@fine.execute
def add_penalty(ctx: TaskContext[Fine]) -> None:
    today = ctx.now.astimezone(ROME).date()
    update = {"stage": "penalised", "penalty_on": today}
    ctx.update_state(lambda state: state.model_copy(update=update))


def penalty_due(notified_on: date) -> datetime:
    """The first instant of the sixtieth day after the notification, on the clocks of Rome.

    Sixty days of the calendar are not 60 times 24 hours if the clocks change in between.
    """
    return datetime.combine(notified_on + PENALTY_AFTER, time(), ROME)


jobs = Jobs(fine=fine)
