"""Mails of several tenants, by a provider that fails. Run it: python examples/email_pool.py

The provider allows 100 mails a minute. One tenant sends a newsletter; the others do not wait for
the end of it. A mail to an address that does not exist has one attempt. Then the provider is down
for an hour, longer than the attempts last: those mails end on the dead-letter desk, where an
operator sends them again, or drops them.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from pydantic import BaseModel

from wakelog import Backoff, Jobs, Retry, WorkerPool, WorkerPoolContext
from wakelog.testing import Simulation


class Mail(BaseModel):
    tenant: str
    to: str


class ProviderDownError(Exception):
    """The provider does not answer."""


class UnknownAddressError(Exception):
    """There is no such mailbox."""


provider = {"is_down": False}
sent: list[tuple[datetime, str]] = []

emails = WorkerPool(
    event=Mail,
    concurrency=4,
    fair="tenant",
    rate_limit=(100, "1m"),
    retry=Retry(
        max_attempts=4,
        delay=Backoff.exponential("1m", max="10m"),
        jitter=0,
        retry_if=ProviderDownError,
    ),
    keep_results=True,
)


@emails.execute
async def send(ctx: WorkerPoolContext, mail: Mail) -> str:
    if mail.to.startswith("typo"):
        raise UnknownAddressError(mail.to)
    if provider["is_down"]:
        raise ProviderDownError("no answer")
    sent.append((ctx.now, mail.tenant))
    return f"accepted at {ctx.now:%H:%M}"


@emails.on_dead_letter
def lay_on_the_desk(ctx: WorkerPoolContext, mail: Mail, error: BaseException) -> None:
    print(f"  {ctx.now:%H:%M} on the desk: {mail.to} ({type(error).__name__}, {ctx.attempts})")


jobs = Jobs(emails=emails)
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def main() -> None:
    with Simulation(jobs, start=START) as sim:
        pool = sim.worker_pool(emails)

        print("a newsletter of big, and then two mails of small:")
        pool.enqueue_many([Mail(tenant="big", to=f"reader-{n}") for n in range(1, 301)])
        pool.enqueue(Mail(tenant="small", to="ann"), id="reset-ann", priority=5)
        pool.enqueue(Mail(tenant="small", to="bob"))
        pool.enqueue(Mail(tenant="small", to="typo@example.org"))
        status = pool.status()
        print(f"  pending: {status.pending}")
        sim.advance("30s")
        by_tenant = Counter(tenant for _, tenant in sent)
        print(f"  after half a minute: {by_tenant['small']} of small, {by_tenant['big']} of big")
        print(f"  {pool.get('reset-ann').result}")
        sim.advance("10m")
        first, last = sent[0][0], sent[-1][0]
        print(f"  {len(sent)} mails sent from {first:%H:%M} to {last:%H:%M}")

        print("the provider is down for an hour:")
        provider["is_down"] = True
        for to in ("cyd", "dan"):
            pool.enqueue(Mail(tenant="small", to=to), id=f"receipt-{to}")
        sim.advance("1m")
        print(f"  why: {pool.why('receipt-cyd').text}")
        sim.advance("59m")

        print("the desk:")
        for error, count in Counter(each.error_type for each in pool.dead_letters()).items():
            print(f"  {error}: {count}")
        provider["is_down"] = False
        requeued = pool.requeue(error="ProviderDownError", actor="ann")
        dropped = pool.discard(error="UnknownAddressError", reason="wrong address", actor="ann")
        print(f"  requeued {', '.join(requeued.events)}; dropped {len(dropped.events)}")
        sim.run_until_idle()
        status = pool.status()
        print(f"  processed: {status.processed}, dead: {status.dead}, dropped: {status.discarded}")
        for entry in pool.history("receipt-cyd")[-4:]:
            print(f"  {entry.at:%H:%M} {entry.description}")


if __name__ == "__main__":
    main()
