"""Where a command works: which store, whose jobs. From its options, else from the environment."""

from __future__ import annotations

import importlib
import logging
import operator
import os
import re
import sys
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, NamedTuple

from pydantic_settings import BaseSettings, SettingsConfigDict

from wakelog.app import App
from wakelog.errors import InvalidIdError, StoreUnavailableError, ValidationError
from wakelog.jobs import Jobs
from wakelog_adapters.cli.exit_codes import UsageError

__all__ = ["Where", "load_jobs", "opened", "without_secrets"]

_LOG = logging.getLogger("wakelog.cli")
EXAMPLE_URL = "sqlite:///orders.db"


class Environment(BaseSettings):
    """WAKELOG_URL and WAKELOG_JOBS. No file is read: what counts is what the process was given."""

    model_config = SettingsConfigDict(env_prefix="WAKELOG_", env_ignore_empty=True, env_file=None)

    url: str | None = None
    jobs: str | None = None


class Where(NamedTuple):
    """The `--url` and `--jobs` of a command, as given."""

    url: str | None = None
    jobs: str | None = None

    def store_url(self) -> str:
        """The URL of the store. Raises `UsageError` where none is named."""
        url = self.url or Environment().url
        if not url:
            raise UsageError(f"no store is named: give --url {EXAMPLE_URL}, or set WAKELOG_URL")
        return url

    def reference(self) -> str | None:
        """Which jobs are meant, as in `orders:jobs`; None where none are named."""
        return self.jobs or Environment().jobs

    def needed_jobs(self) -> Jobs:
        """The jobs that a command cannot do without. Raises `UsageError`."""
        reference = self.reference()
        if not reference:
            raise UsageError("no jobs are named: give --jobs orders:jobs, or set WAKELOG_JOBS")
        return load_jobs(reference)


def load_jobs(reference: str) -> Jobs:
    """Import the `Jobs` at `MODULE:NAME`, with the current folder on the path.

    Raises `UsageError`, which says what is wrong with the module or the name.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{reference!r} names no jobs: write MODULE:NAME, as in orders:jobs")
    module = _module(module_name)
    try:
        found: Any = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise UsageError(f"{module_name} has no {attribute!r}{_offer(module)}") from None
    if not isinstance(found, Jobs):
        kind = type(found).__name__
        raise UsageError(f"{reference} is no Jobs, but of type {kind}{_offer(module)}")
    return found


@asynccontextmanager
async def opened(
    jobs: Jobs, url: str, *, create: bool = False, **options: Any
) -> AsyncGenerator[App]:
    """The open app. Without `create` a file that is not there is an error, not a new store.

    Raises `UsageError` for a URL or an option that cannot be one, and `StoreUnavailableError`.
    """
    if url.startswith("memory:"):
        _LOG.warning("a store in memory is seen by this process only, and ends with it")
    try:
        if not create:
            _check_exists(url)
        opening = jobs.open(url, **options)
        app = await opening.__aenter__()
    except InvalidIdError:
        raise
    except ValidationError as error:
        raise UsageError(str(error)) from None
    try:
        yield app
    finally:
        await opening.__aexit__(None, None, None)


def without_secrets(url: str) -> str:
    """`url` as it may be shown: a password in it is masked."""
    masked = re.sub(r"(://[^:/@?]*:).*@", r"\1***@", url)
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", masked)


def _check_exists(url: str) -> None:
    """A typing error in a file's name must not answer "not_found", and leave an empty file."""
    if not url.startswith("sqlite:"):
        return
    from wakelog_adapters.sqlite.url import parse

    path = parse(url).path
    if not os.path.exists(path):
        raise StoreUnavailableError("unreachable", f"there is no file {path}")


def _module(name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from None
        hint = ": write it without .py" if name.endswith(".py") else " here or on the path"
        raise UsageError(f"there is no module {name!r}{hint}") from None
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from None


def _broken(name: str, error: BaseException) -> UsageError:
    """A module that is there, but cannot be imported: what it raised, and where."""
    said = traceback.format_exception_only(error)[-1].strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if len(frames) > 1 else None
    where = f" ({last.filename}, line {last.lineno})" if last else ""
    advice = f"all of it: {os.path.basename(sys.executable)} -c 'import {name}'"
    return UsageError(f"{name} cannot be imported: {said}{where}\n  {advice}")


def _offer(module: ModuleType) -> str:
    """What could have been meant."""
    known = [name for name, value in vars(module).items() if isinstance(value, Jobs)]
    if not known:
        return "; it needs a line such as: jobs = Jobs(order=order)"
    return "; its jobs: " + ", ".join(f"{module.__name__}:{name}" for name in sorted(known))
