"""What differs between the types of job: one file each, and one line each in this table."""

from __future__ import annotations

from wakelog.ids import Kind
from wakelog.kinds.policy import Behaviour
from wakelog.kinds.task import TASK

__all__ = ["BEHAVIOURS"]

BEHAVIOURS: dict[Kind, Behaviour] = {"task": TASK}
