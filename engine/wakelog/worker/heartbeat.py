"""The heartbeat: a thread of its own, so that a blocked event loop does not lose its leases."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from wakelog.errors import StoreUnavailableError
from wakelog.threads import log_failure

__all__ = ["Heartbeat"]

_LOG = logging.getLogger("wakelog.worker")


class Heartbeat(threading.Thread):
    """Renews every `every_s` seconds and sweeps every `sweep_s` seconds, until it is stopped.

    An error ends neither: it is logged, and the next beat tries again.
    """

    def __init__(
        self,
        renew: Callable[[], None],
        sweep: Callable[[], None],
        *,
        every_s: float,
        sweep_s: float,
    ) -> None:
        super().__init__(name="wakelog-heartbeat", daemon=True)
        self._renew = renew
        self._sweep = sweep
        self._every_s = every_s
        self._beats_per_sweep = max(1, round(sweep_s / every_s))
        self._stopped = threading.Event()

    def run(self) -> None:
        beats = 0
        while not self._stopped.wait(self._every_s):
            beats += 1
            try:
                self._renew()
                if beats % self._beats_per_sweep == 0:
                    self._sweep()
            except StoreUnavailableError as error:
                with contextlib.suppress(Exception):  # a filter of the user's may fail
                    _LOG.error("a heartbeat was missed: %s", error)
            except BaseException as error:  # nothing may end it: the leases would end with it
                log_failure(_LOG, "a heartbeat failed", error=error)

    def stop(self) -> None:
        """End the thread, after the beat that is running. Blocks."""
        self._stopped.set()
        self.join()
