"""Forked processes for tests: what a function answers in one."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable

from tests.support import WAIT_S

__all__ = ["in_forked_process"]


def in_forked_process(answer: Callable[[], str]) -> str:
    """What `answer` returns in a forked process, or the name of the error that it raises there and
    its text. Fails if that takes too long."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():  # newer Pythons warn of a fork beside other threads
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:  # pragma: no cover
        try:
            text = answer()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], WAIT_S)[0], "the forked process hangs"
        return os.read(reading, 10_000).decode()
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
