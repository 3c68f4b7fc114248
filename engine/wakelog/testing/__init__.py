"""For tests of jobs: the real engine in virtual time, repeatable, without servers or sleeps."""

from __future__ import annotations

from wakelog.testing.crash import SimulatedCrash
from wakelog.testing.simulation import Alarm, Simulation

__all__ = ["Alarm", "SimulatedCrash", "Simulation"]
