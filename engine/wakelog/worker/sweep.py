"""The sweep: finds what a bug or an operator has stranded, and re-arms it (A4)."""

from __future__ import annotations

from wakelog.application import Application
from wakelog.core.requests import Rearm
from wakelog.ids import InstanceId
from wakelog.runtime.unit_of_work import Origin
from wakelog.worker.runs import _LOG

__all__ = ["rearm"]


async def rearm(app: Application, stream: str, version: int) -> None:
    """Put back the alarm, or end the run, of an instance that was found stranded at `version` (A4).

    Nothing happens where it has moved on since: somebody works on it.
    """
    id = InstanceId.parse(stream)
    app.forget(stream)
    request = Rearm(version, app.settings.max_lost)
    asked = await app.ask(app.registry.of(id), id, request, origin=Origin(actor="sweep"))
    if asked.after is not None:
        _LOG.warning("%s had work but no alarm: re-armed", stream, extra={"instance": stream})
