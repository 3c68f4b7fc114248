"""The heartbeat: a thread of its own, so that a blocked event loop does not lose its leases."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable

from wakelog.errors import StoreUnavailableError
from wakelog.threads import log_failure

__all__ = ["Heartbeat"]

_LOG = logging.getLogger("wakelog.worker")

LOOK_S = 0.5
"""How often to look whether leases are still there: a clear by another process is seen by the
second look after it, so within 2 s (U14)."""
RETRY_S = 1.0
"""How soon a beat that failed is tried again."""


class Heartbeat(threading.Thread):
    """Renews every `every_s` seconds, sweeps every `sweep_s` seconds and looks at the leases in
    between, until it is stopped.

    An error ends neither: it is logged, and soon tried again.
    """

    def __init__(
        self,
        renew: Callable[[], None],
        look: Callable[[], None],
        sweep: Callable[[], None],
        *,
        every_s: float,
        sweep_s: float,
    ) -> None:
        super().__init__(name="wakelog-heartbeat", daemon=True)
        self._renew = renew
        self._look = look
        self._sweep = sweep
        self._every_s = every_s
        self._beats_per_sweep = max(1, round(sweep_s / every_s))
        self._stopped = False
        self._wake = threading.Event()

    def run(self) -> None:
        pause_s, beats = self._every_s, 0
        while True:
            self._wait(pause_s)
            if self._stopped:
                return
            pause_s = min(RETRY_S, self._every_s)
            if not self._tried(self._renew):
                continue
            pause_s = self._every_s
            beats += 1
            if beats % self._beats_per_sweep == 0:
                self._tried(self._sweep)

    def _wait(self, pause_s: float) -> None:
        """Until the next beat; meanwhile look at the leases now and then."""
        looks = math.ceil(pause_s / LOOK_S)
        for number in range(1, looks + 1):
            if self._wake.wait(pause_s / looks):
                break
            if number < looks:
                self._tried(self._look)
        self._wake.clear()

    def _tried(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except StoreUnavailableError as error:
            with contextlib.suppress(Exception):  # a filter of the user's may fail
                _LOG.error("a heartbeat was missed: %s", error)
        except BaseException as error:  # nothing may end it: the leases would end with it
            log_failure(_LOG, "a heartbeat failed", error=error)
        else:
            return True
        return False

    def beat_now(self) -> None:
        """Do not wait for the next beat. Any thread may call."""
        self._wake.set()

    def stop(self, timeout_s: float | None = None) -> None:
        """End the thread, after the beat that is running; wait for that, at most `timeout_s`. Safe
        to call twice, and before `start`."""
        self._stopped = True
        self._wake.set()
        if self.is_alive():
            self.join(timeout_s)
