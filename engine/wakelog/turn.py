"""The turn: the one lifecycle of a unit of work, the same for every type of job (U1).

    request -> decide -> events and at most one call
                 ^          |
                 |          v
               settle <- outcome of the handler

Between the two halves of a run (a claim, and the outcome of `execute`) its instance is free:
others may append to it. A turn appends nothing and reads nothing: `application` loads the instance
before it and has the events appended after it.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from wakelog.core.calls import HandlerCall, HandlerFailed, Outcome, PayloadUnread, Settle
from wakelog.core.decide import decide
from wakelog.core.events import Event
from wakelog.core.instance import Instance
from wakelog.core.policy import Policy
from wakelog.core.requests import Claim, Receive, Request
from wakelog.definitions.definition import Definition
from wakelog.definitions.steps import StepRunner
from wakelog.execution.handler_runner import HandlerRunner

__all__ = ["MAX_CALLS", "HandlerOutcomes", "Turn", "claim_turn", "perform", "take_turn"]

MAX_CALLS = 3
"""The most handler calls of one unit: a handler, then `on_error`, then `on_idle`."""


class HandlerOutcomes(dict[str, Outcome]):
    """The outcomes of a unit's handlers, by name.

    A run that must be settled again, on a newer version, is settled with the same outcomes: its
    user code is never called twice (U3).
    """

    visible: tuple[object, ...] = ()
    """What the handlers of a deferred event could see of the instance: another instance makes them
    void."""


class Turn(Struct, frozen=True):
    """The result of a unit of work, before it is appended."""

    before: Instance
    after: Instance
    events: tuple[Event, ...]
    raises: tuple[HandlerFailed, ...]
    stale: bool
    """The run that was to be settled was cleared or lost: nothing may be appended."""
    failures: tuple[HandlerFailed, ...] = ()
    """What the handlers that failed have raised, in order, whatever became of it."""
    call: HandlerCall | None = None
    """The call that a claim leads to: `perform` makes it once the claim's events are appended."""


async def take_turn(
    runner: HandlerRunner,
    definition: Definition,
    instance: Instance,
    request: Request,
    now_us: int,
    outcomes: HandlerOutcomes | None = None,
) -> Turn:
    """Decide on `request`, made to `instance` at `now_us`, and call handlers until it is settled.

    `outcomes` holds the outcomes of an earlier try of the same unit, and receives those of this
    one. Raises what `decide` raises, and a cancellation of the task that it runs in.
    """
    if isinstance(request, Claim):
        return claim_turn(definition, instance, request, now_us)
    policy = _policy_of(definition)
    events: tuple[Event, ...] = ()
    raises: tuple[HandlerFailed, ...] = ()
    failures: tuple[HandlerFailed, ...] = ()
    if isinstance(request, Settle) and isinstance(request.outcome, HandlerFailed):
        failures = (request.outcome,)
    decision = decide(instance, request, policy, now_us)
    for _ in range(MAX_CALLS + 1):
        events = decision.events if decision.starts_over else events + decision.events
        raises += decision.raises
        call = decision.call
        if call is None:
            return Turn(instance, decision.after, events, raises, decision.stale, failures)
        outcome = outcomes.get(call.handler) if outcomes is not None else None
        if outcome is None:
            outcome = await runner.call(definition, call, decision.after, now_us)
            if outcomes is not None:
                outcomes[call.handler] = outcome
        if isinstance(outcome, HandlerFailed):
            failures = (*failures, outcome)
        elif isinstance(outcome, PayloadUnread) and isinstance(request, Receive):
            # the state is one that other code can read: the event waits for that code
            decision = decide(instance, replace(request, defer=True), policy, now_us)
            return Turn(instance, decision.after, decision.events, (), decision.stale)
        decision = decide(decision.after, Settle(call, outcome), policy, now_us)
    raise AssertionError(f"{request!r} of {instance.id} was not settled in {MAX_CALLS} calls")


def claim_turn(definition: Definition, instance: Instance, request: Claim, now_us: int) -> Turn:
    """The turn of a claim: it calls no handler. Raises what `decide` raises."""
    decision = decide(instance, request, _policy_of(definition), now_us)
    after, events = decision.after, decision.events
    return Turn(instance, after, events, (), decision.stale, call=decision.call)


def _policy_of(definition: Definition) -> Policy:
    if definition.policy is None:
        raise AssertionError(f"{definition!r} is not registered")
    return definition.policy


async def perform(
    runner: HandlerRunner, definition: Definition, call: HandlerCall, steps: StepRunner
) -> Settle:
    """The first half of a run: call `execute` without locking its instance.

    Others may append to the instance meanwhile; the second half settles on top of that.
    """
    now_us = call.base.recorded_us if call.run is None else call.run.started_us
    outcome = await runner.call(definition, call, call.base, now_us, steps)
    return Settle(call, outcome)
