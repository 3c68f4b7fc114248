"""The status view: how each instance stands. Written in the append's own transaction."""

from __future__ import annotations

from wakelog.core.instance import Instance
from wakelog.kinds import BEHAVIOURS
from wakelog.log.status_row import status_row as row

__all__ = ["row", "word"]


def word(instance: Instance) -> str:
    return BEHAVIOURS[instance.id.kind].status(instance)
