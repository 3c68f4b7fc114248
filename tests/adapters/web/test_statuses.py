"""Each error has an HTTP status, and what is behind the service is not shown (E3, E6)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wakelog import errors
from wakelog_adapters.web import problem_of, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidIdError("id ''", []), 422),
        (errors.InstanceNotFoundError("task:order:a"), 404),
        (errors.UnknownJobError("ordr", ["order"]), 404),
        (errors.IdempotencyConflictError("task:order:a", "k", "send", "send"), 409),
        (errors.QueueFullError("the pool", 10, "wait"), 429),
        (errors.WaitTimeoutError("task:order:a", 1.0), 504),
        (errors.StoreUnavailableError("unreachable", "postgresql://host/db"), 503),
        (errors.InvalidStateError("the app is closed"), 500),
        (errors.ExecutionError("task:order:a", "on_event", "KeyError", "secret"), 500),
    ],
)
def test_E3_an_error_is_a_status_and_says_only_what_concerns_its_caller(
    error: errors.WakelogError, status: int
) -> None:
    problem = problem_of(error)
    assert status_of(error) == problem["status"] == status
    assert problem["type"] == type(error).__name__
    assert ("detail" in problem) == (status < 500)
    assert "host" not in str(problem)
    assert "secret" not in str(problem)


def test_E3_a_value_that_is_not_valid_names_its_issues() -> None:
    issue: errors.Issue = {"loc": "item", "msg": "missing", "type": "missing"}
    assert problem_of(errors.ValidationError("event", [issue]))["issues"] == [issue]


def test_E3_no_framework_is_imported_that_is_not_used() -> None:
    script = (
        "import sys, wakelog, wakelog_adapters.web\n"
        "frameworks = {'fastapi', 'starlette', 'flask', 'django', 'celery', 'sqlalchemy'}\n"
        "print(frameworks & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
