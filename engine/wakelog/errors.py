"""Every error that wakelog raises, on one page.

The cause decides the branch: the caller (`RequestError`), the job's own code (`JobError`), the
environment (`WorldError`) or the recorded history (`HistoryError`). The positional arguments are
the data, so each error pickles with its type, and each message says what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypedDict

__all__ = [
    "ConflictError",
    "ExecutionError",
    "HandlerTimeoutError",
    "HistoryError",
    "IdempotencyConflictError",
    "InboxConnectionError",
    "InstanceNotFoundError",
    "IntegrityError",
    "InvalidIdError",
    "InvalidStateError",
    "Issue",
    "JobError",
    "LeaseLostError",
    "NotOpenedError",
    "QueueFullError",
    "RequestError",
    "RetryExhaustedError",
    "StoreUnavailableError",
    "ThreadsExhaustedError",
    "UnknownActionError",
    "UnknownJobError",
    "UnknownJobTypeError",
    "UnreadableEventError",
    "ValidationError",
    "WaitTimeoutError",
    "WakelogError",
    "WorldError",
]

_MAX_QUOTED = 60
"""How many characters of a value an error shows."""


def quoted(value: object) -> str:
    """A value as errors show it: the beginning of its `repr`, and its type where that fails, as for
    a number of more than 4,300 digits."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."


class WakelogError(Exception):
    """The root: `except WakelogError` catches everything that this library raises on purpose."""


# -- errors of the caller -------------------------------------------------------------------------


class RequestError(WakelogError):
    """The request cannot be carried out; nothing was recorded."""


class UnknownJobError(RequestError):
    """No definition of this kind is registered under this name; empty: the given one is not."""

    def __init__(
        self,
        name: str,
        known: Sequence[str],
        kind: str = "job",
        registered_as: str | None = None,
    ) -> None:
        """`registered_as`: the type of job that the name is registered for."""
        self.name = name if isinstance(name, str) else quoted(name)  # pyright: ignore[reportUnnecessaryIsInstance]
        self.known, self.kind, self.registered_as = tuple(known), kind, registered_as
        super().__init__(self.name, self.known, kind, registered_as)

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        if not self.name:
            return f"this {self.kind} is not registered (registered: {known}); pass it to Jobs(...)"
        if self.registered_as is not None:
            client = re.sub("([A-Z])", r"_\1", self.registered_as).lower()
            return (
                f"{quoted(self.name)} is registered as a {self.registered_as}, not as a "
                f"{self.kind} (registered: {known}); ask for it by its own type, as in "
                f"app.{client}({quoted(self.name)})"
            )
        text = f"no {self.kind} is registered as {quoted(self.name)} (registered: {known}); "
        return text + "pass it to Jobs(...) under that name, or use one of those"


class UnknownJobTypeError(RequestError):
    """The given name is not that of a type of job."""

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        self.kind = kind if isinstance(kind, str) else quoted(kind)  # pyright: ignore[reportUnnecessaryIsInstance]
        self.known = tuple(known)
        super().__init__(self.kind, self.known)

    def __str__(self) -> str:
        return f"{quoted(self.kind)} is not a type of job; the types are {', '.join(self.known)}"


class UnknownActionError(RequestError):
    """The job's type has no such action, or the definition lacks the handler it needs."""

    def __init__(self, action: str, kind: str, advice: str) -> None:
        self.action, self.kind, self.advice = action, kind, advice
        super().__init__(action, kind, advice)

    def __str__(self) -> str:
        return f"a {self.kind} cannot {self.action}: {self.advice}"


class Issue(TypedDict):
    """One problem of a value: its location (`a.0.b`, or empty for the whole), message and type."""

    loc: str
    msg: str
    type: str


class ValidationError(RequestError, ValueError):
    """A value is invalid: an event, a state, an input, a duration, a moment, a key."""

    def __init__(self, what: str, issues: Sequence[Issue]) -> None:
        self.what, self.issues = what, tuple(issues)
        super().__init__(what, self.issues)

    def __str__(self) -> str:
        lines = [f"{i['loc']}: {i['msg']}" if i["loc"] else i["msg"] for i in self.issues]
        return f"{self.what} is not valid: " + "; ".join(lines)


class InvalidIdError(ValidationError):
    """An instance id, or the name of a job or a step, is invalid."""


class InvalidStateError(RequestError):
    """The call is not possible here or now (a closed context, a closed app, inside a handler)."""


class InboxConnectionError(RequestError, ValueError):
    """The connection cannot carry an event: nothing was sent on it but questions, if anything."""

    def __init__(self, reason: str, advice: str) -> None:
        self.reason, self.advice = reason, advice
        super().__init__(reason, advice)

    def __str__(self) -> str:
        return f"connection= cannot be used: {self.reason}; {self.advice}"


class NotOpenedError(InvalidStateError, AttributeError):
    """What `jobs.open(...)` answers was used as an app, and is none before it is entered."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name  # after AttributeError, which has one too

    def __str__(self) -> str:
        return (
            f"jobs.open(...) is no app yet that has {self.name!r}: write `with jobs.open(...) as "
            f"app:` or `async with`; without a block, app = jobs.open_blocking(...) or app = await "
            f"jobs.open_async(...), and close it at the end"
        )


class InstanceNotFoundError(RequestError):
    """The instance has never existed: it has no history."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        super().__init__(instance_id)

    def __str__(self) -> str:
        text = f"{self.instance_id!r} has no history in this store; check the id "
        return text + "(type:name:id, as in task:order:o-17) and the store's URL"


class IdempotencyConflictError(RequestError):
    """The key was used before on this instance, with another payload or action."""

    def __init__(
        self,
        instance_id: str,
        key: str,
        recorded_action: str,
        action: str,
        advice: str = "take a new key for a new request, or forget_key() to free this one",
    ) -> None:
        self.instance_id, self.key = instance_id, key
        self.recorded_action, self.action = recorded_action, action
        self.advice = advice
        super().__init__(instance_id, key, recorded_action, action, advice)

    def __str__(self) -> str:
        what = (
            "with another payload or other options"
            if self.recorded_action == self.action
            else f"for {self.recorded_action!r}"
        )
        return f"key {self.key!r} was already used on {self.instance_id!r} {what}; {self.advice}"


class QueueFullError(RequestError):
    """A bounded queue is full; nothing was accepted."""

    def __init__(self, what: str, limit: int, advice: str) -> None:
        self.what, self.limit, self.advice = what, limit, advice
        super().__init__(what, limit, advice)

    def __str__(self) -> str:
        return f"{self.what} is full ({self.limit}); {self.advice}"


class WaitTimeoutError(RequestError, TimeoutError):
    """The outcome did not come within `timeout=`; what was accepted stays accepted."""

    def __init__(self, instance_id: str, timeout_s: float) -> None:
        self.instance_id, self.timeout_s = instance_id, timeout_s
        super().__init__(instance_id, timeout_s)

    def __str__(self) -> str:
        return (
            f"{self.instance_id} was not done within {self.timeout_s:g} s; what was accepted stays "
            f"accepted: look at its status, and at whether a worker is running"
        )


# -- errors of the job ----------------------------------------------------------------------------


class JobError(WakelogError):
    """A handler of the job failed; the original exception is `__cause__`."""


class ExecutionError(JobError):
    """A handler raised and was not recovered. The original exception is `__cause__`."""

    def __init__(self, instance_id: str, handler: str, error_type: str, message: str) -> None:
        self.instance_id, self.handler = instance_id, handler
        self.error_type, self.message = error_type, message
        super().__init__(instance_id, handler, error_type, message)

    def __str__(self) -> str:
        return f"{self.handler} of {self.instance_id} failed: {self.error_type}: {self.message}"


class HandlerTimeoutError(JobError, TimeoutError):
    """A handler took longer than its `timeout=`."""

    def __init__(self, handler: str, timeout_s: float) -> None:
        self.handler, self.timeout_s = handler, timeout_s
        super().__init__(handler, timeout_s)

    def __str__(self) -> str:
        text = f"{self.handler} took longer than its timeout of {self.timeout_s:g} s; "
        return text + "make it faster, or give its decorator a longer timeout="


class RetryExhaustedError(JobError):
    """A run has used up all its attempts."""

    def __init__(self, instance_id: str, reason: str, attempts: int) -> None:
        self.instance_id, self.reason, self.attempts = instance_id, reason, attempts
        super().__init__(instance_id, reason, attempts)

    def __str__(self) -> str:
        text = f"{self.instance_id} gave up after {self.attempts} attempts ({self.reason}); "
        return text + "see its history, then trigger it again"


# -- errors of the environment --------------------------------------------------------------------


class WorldError(WakelogError):
    """The environment of the engine failed; what was acknowledged before is still recorded."""


StoreReason = Literal[
    "unreachable",
    "full",
    "not_a_database",
    "wrong_version",
    "wrong_settings",
    "locked",
    "read_only",
    "unknown_scheme",
    "not_installed",
    "damaged",
    "moved",
    "refused",
]

_STORE_ADVICE: dict[str, str] = {
    "unreachable": "check that the path or host exists and may be opened",
    "full": "free some space, then try again: nothing of this request was recorded",
    "not_a_database": "the file is something else: give a wakelog database, or a new path",
    "wrong_version": "upgrade the older of the two, if it can be: a schema with wakelog migrate",
    "wrong_settings": "have it changed for this user (ALTER ROLE … SET …), or use no such pooler",
    "locked": "another process has kept a lock for too long: look for a long transaction",
    "read_only": "check its permissions, the rights of this user, and that it is not a standby",
    "unknown_scheme": "use the scheme of an installed store",
    "not_installed": "install its driver: for PostgreSQL, pip install 'wakelog[postgres]'",
    "refused": "it does not accept this value: make the state or payload smaller",
    "moved": "put it back, or close every app that has it open and open the right file: closing "
    "writes back what was acknowledged before if nothing is at the path",
    "damaged": "the database is damaged: restore a copy, or run the database's own check",
}


class StoreUnavailableError(WorldError):
    """The store cannot be used. `reason` is a word for programs, `detail` the driver's message."""

    def __init__(self, reason: StoreReason, detail: str) -> None:
        self.reason: StoreReason = reason
        self.detail = detail
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return f"store unavailable ({self.reason}): {self.detail}; {_STORE_ADVICE[self.reason]}"


class ThreadsExhaustedError(WorldError):
    """No thread is free, or none can be started; nothing was accepted."""

    def __init__(self, what: str, detail: str, advice: str) -> None:
        self.what, self.detail, self.advice = what, detail, advice
        super().__init__(what, detail, advice)

    def __str__(self) -> str:
        return f"no thread for {self.what}: {self.detail}; {self.advice}"


class ConflictError(WorldError):
    """Others changed the instance first, until the bounded retries were used up."""

    def __init__(self, instance_id: str, tries: int) -> None:
        self.instance_id, self.tries = instance_id, tries
        super().__init__(instance_id, tries)

    def __str__(self) -> str:
        return f"{self.instance_id} was changed by others {self.tries} times in a row; try again"


class LeaseLostError(WorldError):
    """The run was taken from this worker (cleared, or its lease expired); its outcome is lost."""

    def __init__(self, instance_id: str, run: int) -> None:
        self.instance_id, self.run = instance_id, run
        super().__init__(instance_id, run)

    def __str__(self) -> str:
        text = f"run {self.run} of {self.instance_id} no longer belongs to this worker: "
        return text + "its history shows what cleared it or took it over"


# -- errors of the history ------------------------------------------------------------------------


class HistoryError(WakelogError):
    """The recorded history cannot be read or is inconsistent."""


class UnreadableEventError(HistoryError):
    """A stored event cannot be decoded."""

    def __init__(self, stream: str, version: int, topic: str, detail: str) -> None:
        self.stream, self.version, self.topic, self.detail = stream, version, topic, detail
        super().__init__(stream, version, topic, detail)

    def __str__(self) -> str:
        return (
            f"event {self.version} of {self.stream} ({self.topic}) cannot be read: {self.detail}; "
            f"a newer wakelog may have written it, or the store is damaged"
        )


class IntegrityError(HistoryError):
    """The hash chain or the version sequence of a stream is broken."""

    def __init__(self, stream: str, version: int, detail: str) -> None:
        self.stream, self.version, self.detail = stream, version, detail
        super().__init__(stream, version, detail)

    def __str__(self) -> str:
        return (
            f"the history of {self.stream} is broken at version {self.version}: {self.detail}; "
            f"something else has changed the store: restore a copy"
        )
