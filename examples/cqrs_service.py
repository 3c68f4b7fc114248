"""A CQRS service with a domain of its own, on the eventsourcing library; its events drive jobs.

Run it: python examples/cqrs_service.py

The domain knows bookings, and nothing of time. A seat that is not paid for within a quarter of an
hour is free again: that is a job, which follows the domain's events and sends it a command when its
time has come.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from wakelog import Jobs, Task, TaskContext
from wakelog.testing import Simulation

# -- the domain ------------------------------------------------------------------------------------


class Booking(Aggregate):
    @event("Reserved")
    def __init__(self, seat: str) -> None:
        self.seat = seat
        self.status = "reserved"

    @event("Paid")
    def pay(self) -> None:
        self.status = "paid"

    @event("Expired")
    def expire(self) -> None:
        self.status = "expired"


class Cinema(Application[UUID]):
    """Commands and queries. Every command is a decision on what has happened."""

    def reserve(self, seat: str) -> UUID:
        booking = Booking(seat)
        self.save(booking)
        return booking.id

    def pay(self, id: UUID) -> None:
        booking = self.booking(id)
        if booking.status != "reserved":
            raise ValueError(f"{booking.seat} is {booking.status}")
        booking.pay()
        self.save(booking)

    def expire(self, id: UUID) -> None:
        """Free the seat, unless it was paid for; asking twice changes nothing."""
        booking = self.booking(id)
        if booking.status == "reserved":
            booking.expire()
            self.save(booking)

    def booking(self, id: UUID) -> Booking:
        found: Booking = self.repository.get(id)
        return found


# -- the jobs --------------------------------------------------------------------------------------

hold = Task(state=str, event=Literal["reserved", "paid"])


@hold.on_event
def noticed(ctx: TaskContext[str], event: Literal["reserved", "paid"]) -> None:
    if event == "paid":
        ctx.clear("paid for")
    ctx.set_state("held")
    ctx.schedule("15m")


@hold.execute
def expire(ctx: TaskContext[str]) -> None:
    cinema: Cinema = ctx.resources
    cinema.expire(UUID(ctx.id))
    ctx.clear("expired")


def policy(ctx: TaskContext[int], happened: Any) -> None:
    """What the events of the domain lead to."""
    match type(happened).__name__:
        case "Reserved":
            ctx.send(hold, str(happened.originator_id), "reserved")
        case "Paid":
            ctx.send(hold, str(happened.originator_id), "paid")
        case _:
            pass


START = datetime(2026, 3, 2, 19, 0, tzinfo=UTC)


def main() -> None:
    cinema = Cinema()
    jobs = Jobs(hold=hold, resources=cinema)
    jobs.follow(cinema, policy, name="bookings")
    with Simulation(jobs, start=START) as sim:
        first, second = cinema.reserve("A1"), cinema.reserve("A2")
        sim.advance("10m")
        cinema.pay(first)
        sim.advance("10m")
        for id in (first, second):
            booking = cinema.booking(id)
            print(f"{booking.seat}: {booking.status}")
        for entry in sim.history(f"task:hold:{second}"):
            print(f"{entry.at:%H:%M}  {entry.description}")


if __name__ == "__main__":
    main()
