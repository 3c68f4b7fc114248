"""The errors: each carries its data, survives pickling, and says what to do next."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import wakelog
from wakelog import errors
from wakelog.errors import (
    ConflictError,
    ExecutionError,
    HandlerTimeoutError,
    HistoryError,
    IdempotencyConflictError,
    InboxConnectionError,
    InstanceNotFoundError,
    IntegrityError,
    InvalidIdError,
    InvalidStateError,
    Issue,
    JobError,
    LeaseLostError,
    NotOpenedError,
    QueueFullError,
    RequestError,
    RetryExhaustedError,
    StoreUnavailableError,
    ThreadsExhaustedError,
    UnknownActionError,
    UnknownJobError,
    UnknownJobTypeError,
    UnreadableEventError,
    ValidationError,
    WaitTimeoutError,
    WakelogError,
    WorldError,
)

ID = "task:order:o-17"
ISSUES: list[Issue] = [
    {"loc": "lines.0.amount", "msg": "must be positive", "type": "greater_than"},
    {"loc": "", "msg": "too long", "type": "length"},
]

EXAMPLES: list[tuple[WakelogError, str]] = [
    (
        NotOpenedError("task"),
        "jobs.open(...) is no app yet that has 'task': write `with jobs.open(...) as app:` or "
        "`async with`; without a block, app = jobs.open_blocking(...) or app = await "
        "jobs.open_async(...), and close it at the end",
    ),
    (
        UnknownJobError("ordr", ["order", "invoice"], "task"),
        "no task is registered as 'ordr' (registered: order, invoice); "
        "pass it to Jobs(...) under that name, or use one of those",
    ),
    (
        UnknownJobError("", ["order"], "task"),
        "this task is not registered (registered: order); pass it to Jobs(...)",
    ),
    (
        UnknownJobError("mail", ["order"], "task", registered_as="workerPool"),
        "'mail' is registered as a workerPool, not as a task (registered: order); "
        "ask for it by its own type, as in app.worker_pool('mail')",
    ),
    (
        UnknownJobTypeError("cron", ["task", "debounce"]),
        "'cron' is not a type of job; the types are task, debounce",
    ),
    (
        UnknownActionError("run", "task", "decorate a function with @….execute"),
        "a task cannot run: decorate a function with @….execute",
    ),
    (
        ValidationError("event of 'order'", ISSUES),
        "event of 'order' is not valid: lines.0.amount: must be positive; too long",
    ),
    (InvalidIdError("instance id ''", ISSUES[1:]), "instance id '' is not valid: too long"),
    (
        InvalidStateError("the app is closed: open it again"),
        "the app is closed: open it again",
    ),
    (
        InstanceNotFoundError(ID),
        "'task:order:o-17' has no history in this store; check the id "
        "(type:name:id, as in task:order:o-17) and the store's URL",
    ),
    (
        InboxConnectionError("it is closed", "give one that is open, in its transaction"),
        "connection= cannot be used: it is closed; give one that is open, in its transaction",
    ),
    (
        IdempotencyConflictError(ID, "k-1", "send", "send"),
        "key 'k-1' was already used on 'task:order:o-17' with another payload or other options; "
        "take a new key for a new request, or forget_key() to free this one",
    ),
    (
        IdempotencyConflictError(ID, "k-1", "clear", "send"),
        "key 'k-1' was already used on 'task:order:o-17' for 'clear'; "
        "take a new key for a new request, or forget_key() to free this one",
    ),
    (
        QueueFullError("the queue of events waiting", 10, "let a worker handle some first"),
        "the queue of events waiting is full (10); let a worker handle some first",
    ),
    (
        WaitTimeoutError(ID, 2.5),
        "task:order:o-17 was not done within 2.5 s; what was accepted stays accepted: "
        "look at its status, and at whether a worker is running",
    ),
    (
        ExecutionError(ID, "on_event", "LookupError", "no such sku"),
        "on_event of task:order:o-17 failed: LookupError: no such sku",
    ),
    (
        HandlerTimeoutError("execute", 30.0),
        "execute took longer than its timeout of 30 s; "
        "make it faster, or give its decorator a longer timeout=",
    ),
    (
        RetryExhaustedError(ID, "max_attempts", 3),
        "task:order:o-17 gave up after 3 attempts (max_attempts); "
        "see its history, then trigger it again",
    ),
    (
        ThreadsExhaustedError("wakelog-reads", "can't start new thread", "raise the limit"),
        "no thread for wakelog-reads: can't start new thread; raise the limit",
    ),
    (
        StoreUnavailableError("full", "jobs.db: disk is full"),
        "store unavailable (full): jobs.db: disk is full; "
        "free some space, then try again: nothing of this request was recorded",
    ),
    (
        ConflictError(ID, 1000),
        "task:order:o-17 was changed by others 1000 times in a row; try again",
    ),
    (
        LeaseLostError(ID, 4),
        "run 4 of task:order:o-17 no longer belongs to this worker: "
        "its history shows what cleared it or took it over",
    ),
    (
        UnreadableEventError(ID, 4, "wakelog.Odd", "no event is known under this topic"),
        "event 4 of task:order:o-17 (wakelog.Odd) cannot be read: no event is known under this "
        "topic; a newer wakelog may have written it, or the store is damaged",
    ),
    (
        IntegrityError(ID, 4, "2 comes before"),
        "the history of task:order:o-17 is broken at version 4: 2 comes before; "
        "something else has changed the store: restore a copy",
    ),
]
BRANCHES = {WakelogError, RequestError, JobError, WorldError, HistoryError}


def test_every_error_has_an_example_here() -> None:
    classes = {
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, WakelogError)
    }
    assert {type(error) for error, _ in EXAMPLES} == classes - BRANCHES


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=lambda x: type(x).__name__)
def test_its_message_says_what_happened_and_what_to_do(error: WakelogError, message: str) -> None:
    assert str(error) == message


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_survives_pickling_with_type_attributes_and_message(
    error: WakelogError, protocol: int
) -> None:
    # given one that was raised, with a note
    copied = copy.copy(error)
    copied.add_note("seen")
    # when
    read = pickle.loads(pickle.dumps(copied, protocol))
    # then
    assert type(read) is type(error)
    assert str(read) == str(error)
    assert vars(read) == vars(copied)
    assert read.args == error.args


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=lambda e: type(e).__name__)
def test_it_belongs_to_one_branch_and_is_a_public_word(error: WakelogError) -> None:
    assert sum(isinstance(error, branch) for branch in BRANCHES - {WakelogError}) == 1
    assert type(error).__name__ in wakelog.__all__
    assert type(error).__name__ in errors.__all__
    assert type(error).__doc__


def test_what_python_knows_already_is_caught_as_that_too() -> None:
    assert issubclass(ValidationError, ValueError)
    assert issubclass(WaitTimeoutError, TimeoutError)
    assert issubclass(HandlerTimeoutError, TimeoutError)


def test_every_reason_of_an_unavailable_store_has_its_advice() -> None:
    for reason in errors.StoreReason.__args__:  # type: ignore[attr-defined]
        assert str(StoreUnavailableError(reason, "detail")).count(";") == 1
