"""What the process finds around it: environment variables, and modules that it can import."""

from __future__ import annotations

import importlib
import operator
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from wakelog.jobs import Jobs
from wakelog_adapters.cli.exit_codes import UsageError

__all__ = ["Environment", "load_jobs"]


class Environment(BaseSettings):
    """WAKELOG_URL and WAKELOG_JOBS; an empty one counts as not set. No file is read."""

    model_config = SettingsConfigDict(env_prefix="WAKELOG_", env_ignore_empty=True, env_file=None)

    url: str | None = None
    jobs: str | None = None


def load_jobs(reference: str) -> Jobs:
    """Import the `Jobs` at `MODULE:NAME`, with the current folder on the path.

    Raises `UsageError`, which says what is wrong with the module or the name.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{reference!r} names no jobs: write MODULE:NAME, as in orders:jobs")
    if "/" in module_name or os.sep in module_name or module_name.startswith("."):
        said = "write the module's name, as in orders:jobs, in the folder of orders.py"
        raise UsageError(f"{module_name!r} is a path: {said}")
    module = _module(module_name)
    try:
        value: Any = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise UsageError(f"{module_name} has no {attribute!r}{_suggestion(module)}") from None
    if not isinstance(value, Jobs):
        type_name = type(value).__name__
        raise UsageError(f"{reference} is of type {type_name}, not Jobs{_suggestion(module)}")
    return value


def _module(name: str) -> ModuleType:
    try:
        folder = os.getcwd()
    except OSError as error:
        said = f"the current folder cannot be read ({error.strerror}): go to one that can be"
        raise UsageError(said) from None
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from None
        where = f" in {folder}, or on the path"
        hint = ": write it without .py" if name.endswith(".py") else where
        raise UsageError(f"there is no module {name!r}{hint}") from None
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from None


def _broken(name: str, error: BaseException) -> UsageError:
    """A module that exists but cannot be imported: what it raised, and in which line."""
    raised = traceback.format_exception_only(error)[-1].strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if len(frames) > 1 else None
    line = f" ({last.filename}, line {last.lineno})" if last else ""
    advice = f"for the traceback: {os.path.basename(sys.executable)} -c 'import {name}'"
    return UsageError(f"{name} cannot be imported: {raised}{line}\n  {advice}")


def _suggestion(module: ModuleType) -> str:
    """Which names in the module would have been right."""
    names = [name for name, value in vars(module).items() if isinstance(value, Jobs)]
    if not names:
        return "; it needs a line such as: jobs = Jobs(order=order)"
    return "; its jobs: " + ", ".join(f"{module.__name__}:{name}" for name in sorted(names))
