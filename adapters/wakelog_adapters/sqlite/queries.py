"""What is read, as SQL. Each query answers one row, with rows of the result as JSON in it."""

from __future__ import annotations

from dataclasses import dataclass

from wakelog.ports.rows import JobPauseRow, Listing, StatusRow
from wakelog_projections.inline import alarms

__all__ = ["PAGE", "Queries", "listing_where"]

PAGE = 500
"""How many events are read in one go: so many are parsed without halting an event loop."""

_NO_RUN = str(alarms.NO_RUN)

LARGE = 65_536
"""States longer than this are not packed with others but fetched one at a time."""


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries, for tables whose names begin with `prefix`."""

    prefix: str

    def load(self) -> str:
        """(stream) -> the newest snapshot's version and state, and the events after it."""
        return f"""WITH newest AS MATERIALIZED (
                SELECT version, state FROM {self.prefix}snapshots
                WHERE stream = ?1 ORDER BY version DESC LIMIT 1)
            SELECT (SELECT version FROM newest), (SELECT state FROM newest), ({
            self._packed_events("ifnull((SELECT version FROM newest), 0)", "9e18", str(PAGE))
        })"""

    def events(self) -> str:
        """(stream, after, upto, limit) -> [[version, topic, state in hex], …]

        The state is null where it is large: ask for it with `event_state`.
        """
        return self._packed_events("?2", "?3", "?4")

    def _packed_events(self, after: str, upto: str, limit: str) -> str:
        state = f"CASE WHEN length(state) <= {LARGE} THEN hex(state) END"
        return f"""SELECT json_group_array(json_array(originator_version, topic, {state}))
            FROM (SELECT originator_version, topic, state FROM {self.prefix}stored_events
                WHERE originator_id = ?1
                AND originator_version > {after} AND originator_version <= {upto}
                ORDER BY originator_version LIMIT {limit})"""

    def event_state(self) -> str:
        """(stream, version) -> the state of one event, as it is."""
        return f"""SELECT state FROM {self.prefix}stored_events
            WHERE originator_id = ? AND originator_version = ?"""

    def status_row(self) -> str:
        """(stream) -> one status row, as it is."""
        columns = ", ".join(StatusRow.__struct_fields__)
        return f"SELECT {columns} FROM {self.prefix}status WHERE stream = ?"

    def status(self) -> str:
        """(streams as JSON) -> status rows. A large state is 1: ask with `status_row`."""
        return self._packed_status("stream IN (SELECT value FROM json_each(?))", "")

    def list(self, where: str) -> str:
        """(… , limit) -> status rows in order, as from `status`."""
        return self._packed_status(where, "ORDER BY stream LIMIT ?")

    def count(self, where: str) -> str:
        """(now, …) -> [[kind, name, status, executing, overdue, number], …]"""
        return f"""SELECT json_group_array(json_array(kind, name, status, executing, overdue, n))
            FROM (SELECT kind, name, status, executing,
                executing = 0 AND ifnull(wake_us <= ?, 0) AS overdue, count(*) AS n
                FROM {self.prefix}status WHERE {where} GROUP BY 1, 2, 3, 4, 5)"""

    def leases(self) -> str:
        """(limit) -> [[stream, owner, until, token, run, topic, state in hex], …]"""
        return f"""SELECT json_group_array(json_array(
                stream, owner, until_us, token, run, topic, hex(state)))
            FROM (SELECT l.*, e.topic, e.state FROM {self.prefix}leases l
                LEFT JOIN {self.prefix}stored_events e
                ON e.originator_id = l.stream AND e.originator_version = l.token
                ORDER BY l.stream LIMIT ?)"""

    def _packed_status(self, where: str, rest: str) -> str:
        columns = ", ".join(StatusRow.__struct_fields__)
        short = ", ".join(StatusRow.__struct_fields__[:-1])
        state = f"CASE WHEN length(state) <= {LARGE} THEN state WHEN state IS NOT NULL THEN 1 END"
        return f"""SELECT json_group_array(json_array({short}, {state})) FROM (
            SELECT {columns} FROM {self.prefix}status WHERE {where} {rest})"""

    def kept_replies(self) -> str:
        """([stream, key] pairs as JSON) -> [[stream, key, action, …], …]"""
        return f"""SELECT json_group_array(json_array(
                a.stream, a.key, a.action, a.fingerprint, a.body, a.expires_us))
            FROM json_each(?) j JOIN {self.prefix}kept_replies a
            ON a.stream = json_extract(j.value, '$[0]')
            AND a.key = json_extract(j.value, '$[1]')"""

    # A query over jobs is given them as JSON, [[job, limit on its runs or null], …].

    def next_due(self) -> str:
        """(jobs, now) -> when something can be claimed. Some index probes for each job."""
        return f"""SELECT min(at_us) FROM (
            SELECT {self._first("NOT IN")} AS at_us FROM {self._jobs()}
                WHERE j.most IS NULL OR j.most > {self._running()}
            UNION ALL
            SELECT {self._first("IN")} FROM {self._jobs()}
            UNION ALL
            SELECT (SELECT min(l.until_us) FROM {self.prefix}leases l WHERE l.job = j.job)
                FROM {self._jobs()})"""

    def _jobs(self) -> str:
        """Those that are not held."""
        return f"""(SELECT value ->> 0 AS job, value ->> 1 AS most FROM json_each(?1)
            WHERE value ->> 0 NOT IN (SELECT job FROM {self.prefix}job_pauses)) j"""

    def _first(self, among: str) -> str:
        return f"""(SELECT a.due_us FROM {self.prefix}alarms a
            WHERE a.job = j.job AND a.action {among} {_NO_RUN} AND {self._free("?2")}
            ORDER BY a.due_us LIMIT 1)"""

    def due(self) -> str:
        """(jobs, now, limit) -> [[stream, due, job, runs it may begin], …]: of each job the oldest.

        The last is null where there is no limit to them, or where none would be begun.
        """
        return f"""SELECT json_group_array(json_array(d.stream, d.due_us, d.job, d.free)) FROM (
            SELECT k.value ->> 0 AS stream, k.value ->> 1 AS due_us, j.job,
                max(0, j.most - {self._running()}) AS free
            FROM {self._jobs()}, json_each({self._alarms("NOT IN")}) k
            UNION ALL
            SELECT k.value ->> 0, k.value ->> 1, j.job, NULL
            FROM {self._jobs()}, json_each({self._alarms("IN")}) k
            UNION ALL
            SELECT k.value ->> 0, k.value ->> 1, j.job, NULL
            FROM {self._jobs()}, json_each({self._ended()}) k) d"""

    def _alarms(self, among: str) -> str:
        return f"""(SELECT json_group_array(json_array(stream, due_us)) FROM (
            SELECT a.stream, a.due_us FROM {self.prefix}alarms a
            WHERE a.job = j.job AND a.due_us <= ?2 AND a.action {among} {_NO_RUN}
            AND {self._free("?2")} ORDER BY a.due_us, a.stream LIMIT ?3))"""

    def _ended(self) -> str:
        """Leases that have ended; not those of instances that wait for a run to begin."""
        return f"""(SELECT json_group_array(json_array(stream, until_us)) FROM (
            SELECT l.stream, l.until_us FROM {self.prefix}leases l
            WHERE l.job = j.job AND l.until_us <= ?2
            AND NOT EXISTS (SELECT 1 FROM {self.prefix}alarms a WHERE a.stream = l.stream
                AND a.due_us <= ?2 AND a.action NOT IN {_NO_RUN})
            ORDER BY l.until_us, l.stream LIMIT ?3))"""

    def _free(self, now: str) -> str:
        return f"""NOT EXISTS (SELECT 1 FROM {self.prefix}leases l
            WHERE l.stream = a.stream AND l.until_us > {now})"""

    def _running(self) -> str:
        return f"(SELECT count(*) FROM {self.prefix}leases r WHERE r.job = j.job AND r.run = 1)"

    def claimed(self) -> str:
        """(streams as JSON, now) -> [[stream, version, owner, until, token, run], …]

        The owner is null where no lease has ended.
        """
        return f"""SELECT json_group_array(json_array(
                j.value, ifnull(s.version, 0), l.owner, l.until_us, l.token, l.run))
            FROM json_each(?1) j LEFT JOIN {self.prefix}status s ON s.stream = j.value
            LEFT JOIN {self.prefix}leases l ON l.stream = j.value AND l.until_us <= ?2"""

    def pause_job(self) -> str:
        """(job) -> its hold, as it is."""
        return f"SELECT {', '.join(JobPauseRow._fields)} FROM {self.prefix}job_pauses WHERE job = ?"

    def job_pauses(self) -> str:
        """() -> [[job, reason, actor, since], …]"""
        columns = ", ".join(JobPauseRow._fields)
        return f"SELECT json_group_array(json_array({columns})) FROM {self.prefix}job_pauses"

    def stranded_runs(self) -> str:
        """(before, limit) -> streams with an open run and no lease; then whether alarms agree.

        Alarms and status rows are made of the same: where their numbers and sums agree, no alarm
        is missing. That takes a tenth of a second for a million rows, and no index that every
        append would have to write.
        """
        return f"""SELECT (SELECT json_group_array(stream) FROM (
                SELECT s.stream FROM {self.prefix}status s
                WHERE s.executing = 1 AND s.updated_us < ?1 AND {self._no_lease()} LIMIT ?2)),
            (SELECT count(*) || '.' || ifnull(sum(wake_us % 1000000007), 0)
                FROM {self.prefix}status WHERE wake_us IS NOT NULL)
            = (SELECT count(*) || '.' || ifnull(sum(due_us % 1000000007), 0)
                FROM {self.prefix}alarms)"""

    def stranded_alarms(self) -> str:
        """(before, limit) -> streams to be woken that have no alarm and no lease."""
        return f"""SELECT json_group_array(stream) FROM (
            SELECT s.stream FROM {self.prefix}status s
            WHERE s.wake_us IS NOT NULL AND s.executing = 0 AND s.updated_us < ?1
            AND NOT EXISTS (SELECT 1 FROM {self.prefix}alarms a WHERE a.stream = s.stream)
            AND {self._no_lease()} LIMIT ?2)"""

    def _no_lease(self) -> str:
        return f"NOT EXISTS (SELECT 1 FROM {self.prefix}leases l WHERE l.stream = s.stream)"


def listing_where(listing: Listing) -> tuple[str, list[object]]:
    """The condition for a page of living or of waking instances, and its parameters."""
    first = "wake_us IS NOT NULL" if listing.waking else "status <> 'not_found'"
    conditions: list[tuple[str, tuple[object, ...]]] = [(first, ())]
    after = listing.after or ""
    if listing.kind is not None:
        # One range of the primary key; ";" is the character after ":".
        start = listing.kind if listing.name is None else f"{listing.kind}:{listing.name}"
        after = max(after, f"{start}:")
        conditions.append(("stream < ?", (f"{start};",)))
    elif listing.name is not None:
        conditions.append(("name = ?", (listing.name,)))
    conditions.append(("stream > ?", (after,)))
    if listing.status is not None:
        conditions.append(("status = ?", (listing.status,)))
    if listing.id_prefix is not None:
        prefix = listing.id_prefix
        conditions.append(("substr(id, 1, ?) = ?", (len(prefix), prefix)))
    if listing.due_before_us is not None:
        conditions.append(("wake_us < ?", (listing.due_before_us,)))
    if listing.error_type is not None:
        conditions.append(("json_extract(last_error, '$.error_type') = ?", (listing.error_type,)))
    if listing.updated_after_us is not None:
        conditions.append(("updated_us > ?", (listing.updated_after_us,)))
    where = " AND ".join(condition for condition, _ in conditions)
    return where, [value for _, values in conditions for value in values]
