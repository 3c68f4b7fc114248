"""What differs between the types of job: one file each, and one line each in this table."""

from __future__ import annotations

from wakelog.ids import Kind
from wakelog.kinds.behaviour import Behaviour
from wakelog.kinds.continuous import ContinuousBehaviour
from wakelog.kinds.debounce import DebounceBehaviour
from wakelog.kinds.task import TaskBehaviour

__all__ = ["BEHAVIOURS"]

BEHAVIOURS: dict[Kind, type[Behaviour]] = {
    "task": TaskBehaviour,
    "continuous": ContinuousBehaviour,
    "debounce": DebounceBehaviour,
}
