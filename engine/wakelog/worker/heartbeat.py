"""The heartbeat: keeps the leases of a worker, from a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from wakelog.errors import StoreUnavailableError

if TYPE_CHECKING:
    from wakelog.worker.worker import Worker

__all__ = []

_LOG = logging.getLogger("wakelog.worker")


class _Heart(threading.Thread):
    """Beats from a thread of its own: a loop that user code blocks must not lose its leases."""

    def __init__(self, worker: Worker, every_s: float) -> None:
        super().__init__(name="wakelog-heart", daemon=True)
        self._worker = worker
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        beats_to_sweep = max(1, round(self._worker.sweep_s / self._every_s))
        beats = 0
        while not self._stopped.wait(self._every_s):
            beats += 1
            try:
                self._worker.beat()
                if beats % beats_to_sweep == 0:
                    self._worker.sweep()
            except StoreUnavailableError as error:
                _LOG.error("a heartbeat was missed: %s", error)
            except Exception:
                _LOG.exception("a heartbeat failed")

    def stop(self) -> None:
        self._stopped.set()
        self.join()
