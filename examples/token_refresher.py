"""A token that is renewed shortly before it expires. Run it: python examples/token_refresher.py

Each run fetches a new token and sets the time of the next run: a minute before the token expires.
`every` is for a service that does not state how long its tokens are valid. A failed run is retried,
with growing delays.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from wakelog import Backoff, Continuous, ContinuousContext, Jobs, Retry
from wakelog.testing import Simulation


class Token(BaseModel):
    text: str = ""
    ends_at: datetime | None = None


class Bank:
    """A stand-in for a service that issues tokens: two of its replies are errors."""

    def __init__(self) -> None:
        self.asked = 0

    async def new_token(self, now: datetime) -> Token:
        self.asked += 1
        if self.asked in (3, 4):
            raise ConnectionError("the bank does not answer")
        return Token(text=f"token {self.asked}", ends_at=now + timedelta(minutes=15))


retry = Retry(max_attempts=5, delay=Backoff.exponential("5s", factor=2, max="1m"), jitter=0)
refresh = Continuous(state=Token, every="10m", retry=retry)


@refresh.execute(timeout="20s")
async def renew(ctx: ContinuousContext[Token]) -> None:
    bank: Bank = ctx.resources
    token = await bank.new_token(ctx.now)
    print(f"{ctx.now:%H:%M:%S}  run {ctx.run_count}, attempt {ctx.attempt}: {token.text}")
    ctx.set_state(token)
    if token.ends_at is not None:
        ctx.schedule(token.ends_at - timedelta(minutes=1))


@refresh.on_client_get_state
def shown(ctx: ContinuousContext[Token], token: Token) -> Token:
    return token.model_copy(update={"text": "****"})


jobs = Jobs(refresh=refresh, resources=Bank())


def main() -> None:
    """Three quarters of an hour, in virtual time."""
    with Simulation(jobs, start=datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) as sim:
        tokens = sim.continuous(refresh)
        started = tokens.start("bank", Token())
        print("next run:", f"{started.next_run_at:%H:%M:%S}")
        sim.advance("45m")
        status = tokens.status("bank")
        print(f"{status.status}, {status.run_count} runs, {status.failure_count} failures")
        seen = tokens.get_state("bank")
        print("callers see:", seen and f"{seen.text}, until {seen.ends_at:%H:%M:%S}")
        print("stopped:", tokens.stop("bank", reason="the account is closed").reason)
        print("alarms left:", len(sim.alarms()))


if __name__ == "__main__":
    main()
