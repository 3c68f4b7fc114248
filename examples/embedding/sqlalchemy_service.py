"""SQLAlchemy in handlers: the engine comes by `Jobs(resources=…)`, one for each process.

python -m examples.embedding.sqlalchemy_service
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from wakelog import Jobs, Task, TaskContext


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    name: Mapped[str] = mapped_column(primary_key=True)


class Invoice(Base):
    __tablename__ = "invoices"
    order: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(ForeignKey(Customer.name))


@dataclass(frozen=True)
class Services:
    engine: Engine


order = Task(state=str, event=str)


@order.on_event
def placed(ctx: TaskContext[str], customer: str) -> None:
    ctx.set_state(customer)
    ctx.schedule(0)


@order.execute
def bill(ctx: TaskContext[str]) -> None:
    """A session of its own for each run; the key of the row makes a repeated run harmless."""
    services: Services = ctx.resources
    with Session(services.engine) as session, session.begin():
        session.merge(Customer(name=ctx.state or ""))
        session.merge(Invoice(order=ctx.id, customer=ctx.state))


def main(folder: Path) -> None:
    url = f"sqlite+pysqlite:///{folder / 'shop.db'}"  # one database, and one setting, for both
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    jobs = Jobs(order=order, resources=Services(engine))
    with jobs.open(url, worker=True) as app:
        for id, customer in (("o-1", "ann"), ("o-2", "bob"), ("o-3", "ann")):
            app.task(order).send(id, customer)
            app.task(order).trigger(id, timeout="20s")
    with Session(engine) as session:
        rows = session.execute(
            select(Invoice.customer, func.count()).group_by(Invoice.customer).order_by("customer")
        )
        print(", ".join(f"{customer}: {count}" for customer, count in rows))
    engine.dispose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
