"""Re-arms one instance that has work and neither an alarm nor a lease (A4)."""

from __future__ import annotations

import logging

from wakelog.application import Application
from wakelog.core.requests import Rearm
from wakelog.ids import InstanceId
from wakelog.runtime.unit_records import Origin

__all__ = ["rearm"]

_LOG = logging.getLogger("wakelog.worker")


async def rearm(app: Application, stream: str, version: int) -> None:
    """Restore the alarm, or end the run, of an instance that was found stranded at `version`.

    Nothing happens if it has moved on since: then somebody works on it.
    """
    id = InstanceId.parse(stream)
    app.instances.evict(stream)
    request = Rearm(version, app.settings.max_lost)
    origin = Origin(actor="sweep")
    outcome = await app.request(app.registry.of(id), id, request, origin=origin)
    if outcome.after is not None:
        _LOG.warning("%s had work but no alarm: re-armed", stream, extra={"instance": stream})
