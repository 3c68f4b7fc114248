"""The occurrences of a recurrence, for one instance: those that it has run do not come again."""

from __future__ import annotations

from dataclasses import dataclass

from wakelog.core.events import By, Scheduled
from wakelog.core.instance import Instance
from wakelog.core.recurrence import Recurrence

__all__ = ["Occurrences", "origin_of"]


def origin_of(instance: Instance) -> int:
    """When the grid of this life begins."""
    return instance.started_us or 0


@dataclass(frozen=True, slots=True)
class Occurrences:
    """When the runs of an instance are due by the rule of its definition."""

    recurrence: Recurrence

    def next(
        self,
        instance: Instance,
        after_us: int,
        now_us: int,
        *,
        not_before_us: int = 0,
        by: By = "policy",
    ) -> Scheduled:
        """The schedule for the first occurrence later than `after_us` that has not run."""
        origin_us, ran_us = origin_of(instance), (instance.ran_from_us, instance.ran_upto_us)
        due_us = self.recurrence.after(after_us, origin_us)
        due_us = self.recurrence.not_run(due_us, ran_us, now_us, origin_us)
        return self.at(instance, due_us, not_before_us=not_before_us, by=by)

    def at(
        self, instance: Instance, asked_us: int, *, not_before_us: int = 0, by: By = "policy"
    ) -> Scheduled:
        """The schedule for the occurrence at `asked_us`, later by its jitter."""
        due_us, recurrence = asked_us, self.recurrence
        if recurrence.jitter_us:
            seed = f"{instance.id}@{instance.version}"
            due_us = recurrence.spread(asked_us, origin_of(instance), seed)
        due_us = max(due_us, not_before_us)
        return Scheduled(
            due_us=due_us,
            by=by,
            asked_us=None if asked_us == due_us else asked_us,
            reason=recurrence.text,
            local=None if recurrence.cron is None else recurrence.cron.local(asked_us),
        )

    def moved(self, instance: Instance) -> int | None:
        """When the scheduled occurrence is by new rules of its time zone, if that is another
        moment than the one it was scheduled for. If a run had that moment by the old rules, the
        next occurrence takes its place."""
        local, cron = instance.due_local, self.recurrence.cron
        if cron is None or local is None or instance.due_reason != self.recurrence.text:
            return None
        asked_us = instance.due_asked_us
        moved_us = asked_us if cron.local(asked_us) == local else cron.moment(local)
        ran_us = instance.ran_from_us, instance.ran_upto_us
        moved_us = self.recurrence.not_run(moved_us, ran_us, asked_us, origin_of(instance))
        return None if moved_us == asked_us else moved_us

    def has(self, instance: Instance, asked_us: int) -> bool:
        """Whether the grid of the rule has an occurrence then."""
        return self.recurrence.after(asked_us - 1, origin_of(instance)) == asked_us

    def newest(self, instance: Instance) -> int:
        """The occurrence of the newest run, for the next one to come after. By new rules of its
        time zone it may be later than it was, and it must not come again then."""
        due_us, local, cron = instance.run_due_us, instance.run_local, self.recurrence.cron
        if cron is None or local is None or instance.run_reason != self.recurrence.text:
            return due_us
        return max(due_us, cron.moment(local))
