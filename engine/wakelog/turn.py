"""The turn: the one lifecycle of a unit of work, the same for every type of job.

    request -> decide -> events and at most one call
                 ^          |
                 |          v
               settle <- outcome of the handler

Everything else is shared around it: `application` loads the instance before and appends the
events after. A turn appends nothing and reads nothing.
"""

from __future__ import annotations

from msgspec import Struct

from wakelog.core.calls import HandlerCall, HandlerFailed, Outcome, Settle
from wakelog.core.decide import decide
from wakelog.core.events import Event
from wakelog.core.instance import Instance
from wakelog.core.requests import Request
from wakelog.definitions.definition import Definition
from wakelog.definitions.steps import StepRunner
from wakelog.execution.handler_runner import HandlerRunner

__all__ = ["MAX_CALLS", "HandlerOutcomes", "Turn", "perform", "take_turn"]

MAX_CALLS = 3
"""Of one unit: a handler, then `on_error`, then `on_idle`."""

HandlerOutcomes = dict[str, Outcome]
"""How the handlers of a unit ended. A run that must be settled again, on a newer version, is
settled with the same outcomes: its user code is never called twice."""


class Turn(Struct, frozen=True):
    """What a unit of work came to, before it is appended."""

    before: Instance
    after: Instance
    events: tuple[Event, ...]
    raises: tuple[HandlerFailed, ...]
    stale: bool
    """The run that was to be settled is not ours any more: nothing may be appended."""


async def take_turn(
    caller: HandlerRunner,
    definition: Definition,
    instance: Instance,
    request: Request,
    now_us: int,
    memory: HandlerOutcomes | None = None,
) -> Turn:
    """Put `request` to `instance` at `now_us`, and call what has to be called until it is settled.

    `memory` holds the outcomes of an earlier try of the same unit, and takes those of this one.
    Raises what `decide` raises, and a cancellation of the task that it runs in.
    """
    policy = definition.policy
    if policy is None:
        raise AssertionError(f"{definition!r} is not registered")
    events: tuple[Event, ...] = ()
    raises: tuple[HandlerFailed, ...] = ()
    decision = decide(instance, request, policy, now_us)
    for _ in range(MAX_CALLS + 1):
        events = decision.events if decision.starts_over else events + decision.events
        raises += decision.raises
        call = decision.call
        if call is None:
            return Turn(instance, decision.after, events, raises, decision.stale)
        outcome = memory.get(call.handler) if memory is not None else None
        if outcome is None:
            outcome = await caller.call(definition, call, decision.after, now_us)
            if memory is not None:
                memory[call.handler] = outcome
        decision = decide(decision.after, Settle(call, outcome), policy, now_us)
    raise AssertionError(f"settling {request!r} of {instance.id} did not come to an end")


async def perform(
    caller: HandlerRunner, definition: Definition, call: HandlerCall, steps: StepRunner
) -> Settle:
    """The first half of a run: call `execute` without holding its instance.

    Meanwhile others may append to it; the second half settles on what it is then.
    """
    started = call.base
    outcome = await caller.call(definition, call, started, started.recorded_us, steps)
    return Settle(call, outcome)
