"""The statements of the SQLite store, built once for each prefix.

A query returns one row, with the rows of its result as JSON in it: see `connections`. A statement
over jobs takes them as JSON, `[[job, limit on its runs or null], …]`.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import astuple

from wakelog.ports.inbox import InboxRow
from wakelog.ports.rows import JobPauseRow, StatusRow, WorkerRow
from wakelog_adapters.sql.listing import Dialect
from wakelog_projections.inline.alarms import NO_RUN

__all__ = ["DIALECT", "PAGE", "Queries"]

PAGE = 500
"""How many events one query reads: as many as are parsed without holding up an event loop."""
FEW = 50
"""How many events of each stream a query for many streams reads: more are read by themselves."""
LARGE = 65_536
"""States longer than this are not packed with others but fetched one at a time."""

DIALECT = Dialect(placeholder="?", has_id_prefix="instr(s.id, ?) = 1")

_INBOX = ", ".join(f"i.{column}" for column in InboxRow._fields)
_JOB_PAUSE = ", ".join(JobPauseRow._fields)
_WORKER = ", ".join(WorkerRow._fields)
_STATUS = ", ".join(f"s.{column}" for column in StatusRow.__struct_fields__)
_SHORT_STATUS = ", ".join(StatusRow.__struct_fields__[:-1])

# -- parts of queries for events and status rows

_PACKED_EVENTS = f"""SELECT json_group_array(json_array(originator_version, topic,
        CASE WHEN length(state) <= {LARGE} THEN hex(state) END))
    FROM (SELECT originator_version, topic, state FROM {{prefix}}stored_events
        WHERE originator_id = %s AND originator_version > %s AND originator_version <= %s
        ORDER BY originator_version LIMIT %s)"""
_PACKED_STATUS = f"""SELECT json_group_array(json_array({_SHORT_STATUS},
        CASE WHEN length(state) <= {LARGE} THEN state WHEN state IS NOT NULL THEN 1 END))
    FROM (SELECT {_STATUS} FROM {{prefix}}status s WHERE %s)"""
_AFTER_SNAPSHOT = "ifnull((SELECT version FROM newest) - 1, 0)"
_NO_LEASE = "NOT EXISTS (SELECT 1 FROM {prefix}leases l WHERE l.stream = s.stream)"

# -- parts of queries for what is due

_JOBS = """jobs AS MATERIALIZED (
        SELECT value ->> 0 AS job, value ->> 1 AS most FROM json_each(?1)
        WHERE value ->> 0 NOT IN (SELECT job FROM {prefix}job_pauses))"""
"""Those that are not paused."""
_RUNNING = "(SELECT count(*) FROM {prefix}leases r WHERE r.job = j.job AND r.run = 1)"
_FREE = """NOT EXISTS (SELECT 1 FROM {prefix}leases l
        WHERE l.stream = a.stream AND l.until_us > ?2)"""
_STARTS_RUN, _STARTS_NONE = f"a.action NOT IN {NO_RUN}", f"a.action IN {NO_RUN}"
_FIRST_ALARM = f"""(SELECT a.due_us FROM {{prefix}}alarms a
        WHERE a.job = j.job AND %s AND {_FREE} ORDER BY a.due_us LIMIT 1)"""
_NEXT_DUE = f"""SELECT min(at_us) FROM (
        SELECT {_FIRST_ALARM % _STARTS_RUN} AS at_us FROM jobs j
            WHERE j.most IS NULL OR j.most > {_RUNNING}
        UNION ALL
        SELECT {_FIRST_ALARM % _STARTS_NONE} FROM jobs j
        UNION ALL
        SELECT (SELECT min(l.until_us) FROM {{prefix}}leases l WHERE l.job = j.job)
            FROM jobs j)"""

_MAY_TAKE_OVER = "l.until_us <= ?2 AND ?4 AND l.owner <> ?5"
_NOT_LEFT = "%s.stream NOT IN (SELECT stream FROM left_to_others)"
_LEFT = """left_to_others AS MATERIALIZED (
        SELECT s.stream FROM json_each(?6) j JOIN {prefix}status s ON s.stream = j.value
        WHERE abs(s.updated_us - ?2) < ?7)"""
_DUE_ALARMS = f"""(SELECT json_group_array(json_array(stream, due_us)) FROM (
        SELECT a.stream, a.due_us FROM {{prefix}}alarms a
        WHERE a.job = j.job AND a.due_us <= ?2 AND %s AND {_NOT_LEFT % "a"}
        AND NOT EXISTS (SELECT 1 FROM {{prefix}}leases l WHERE l.stream = a.stream%s)
        ORDER BY a.due_us, a.stream LIMIT ?3))"""
_DUE_RUNS = _DUE_ALARMS % (_STARTS_RUN, f" AND NOT ({_MAY_TAKE_OVER} AND l.run = 0)")
_DUE_OTHERS = _DUE_ALARMS % (_STARTS_NONE, "")
_ENDED_LEASES = f"""(SELECT json_group_array(json_array(stream, due_us)) FROM (
        SELECT l.stream, min(l.until_us, ifnull((SELECT a.due_us FROM {{prefix}}alarms a
            WHERE a.stream = l.stream), l.until_us)) AS due_us
        FROM {{prefix}}leases l
        WHERE l.job = j.job AND {_MAY_TAKE_OVER} AND {_NOT_LEFT % "l"}
        AND NOT (l.run = 0 AND EXISTS (SELECT 1 FROM {{prefix}}alarms a
            WHERE a.stream = l.stream AND a.due_us <= ?2 AND {_STARTS_RUN}))
        ORDER BY l.until_us, l.stream LIMIT ?3))"""
"""Not those of instances that wait for a run to start. A run that never began, since its worker
has died, has its alarm still and counts as a run already: to take it over is no other one."""
_DUE = f"""SELECT k.value ->> 0 AS stream, k.value ->> 1 AS due_us, j.job, 1 AS run,
            j.most - k.key AS room
        FROM jobs j, json_each({_DUE_RUNS}) k
        WHERE j.most IS NULL OR k.key < j.most - {_RUNNING}
        UNION ALL
        SELECT k.value ->> 0, k.value ->> 1, j.job, 0, NULL
        FROM jobs j, json_each({_DUE_OTHERS}) k
        UNION ALL
        SELECT k.value ->> 0, k.value ->> 1, j.job, 0, NULL
        FROM jobs j, json_each({_ENDED_LEASES}) k
        ORDER BY 2, 1 LIMIT ?3"""
"""The oldest, each instance once. `room`: fewer runs than that must be going on in its job."""


class Queries(Struct, frozen=True):
    """The statements. The defaults are templates; `Queries.of(prefix)` is what is executed."""

    # -- events and snapshots

    load: str = f"""WITH newest AS MATERIALIZED (
            SELECT version, state FROM {{prefix}}snapshots
            WHERE stream = ?1 ORDER BY version DESC LIMIT 1)
        SELECT (SELECT version FROM newest), (SELECT state FROM newest),
            (SELECT version FROM {{prefix}}status WHERE stream = ?1),
            (SELECT hash FROM {{prefix}}status WHERE stream = ?1),
            ({_PACKED_EVENTS % ("?1", _AFTER_SNAPSHOT, "9e18", PAGE)})"""
    """(stream) -> the newest snapshot's version and state, version and hash of the status row, the
    event of the snapshot and those after it."""
    load_many: str = f"""SELECT json_group_array(json_array(value, version,
            CASE WHEN length(state) <= {LARGE} THEN hex(state) END, length(state), newest, hash,
            json(({_PACKED_EVENTS % ("value", "ifnull(version - 1, 0)", "9e18", FEW)}))))
        FROM (SELECT j.value, n.version, n.state, s.version AS newest, s.hash
            FROM json_each(?1) j
            LEFT JOIN {{prefix}}snapshots n ON n.stream = j.value AND n.version = (
                SELECT max(version) FROM {{prefix}}snapshots m WHERE m.stream = j.value)
            LEFT JOIN {{prefix}}status s ON s.stream = j.value)"""
    """(streams as JSON) -> for each as from `load`, the state in hex: null if it is large."""
    events: str = _PACKED_EVENTS % ("?1", "?2", "?3", "?4")
    """(stream, after, upto, limit) -> [[version, topic, state in hex], …]. The state is null if it
    is large: read it with `event_state`."""
    event_state: str = """SELECT state FROM {prefix}stored_events
        WHERE originator_id = ? AND originator_version = ?"""
    """(stream, version) -> the state of one event."""
    snapshot_before: str = """SELECT version, state FROM {prefix}snapshots
        WHERE stream = ? AND version <= ? ORDER BY version DESC LIMIT 1"""
    """(stream, version) -> version and state; no row if there is none."""

    # -- the status view

    status: str = _PACKED_STATUS % "s.stream IN (SELECT value FROM json_each(?))"
    """(streams as JSON) -> status rows. A large state is 1: read the row with `status_row`."""
    status_row: str = f"SELECT {_STATUS} FROM {{prefix}}status s WHERE s.stream = ?"
    """(stream) -> the columns of one status row."""
    list_where: str = _PACKED_STATUS % "{where} ORDER BY s.stream LIMIT ?"
    """(parameters of the condition `{where}`, limit) -> status rows in order, as from `status`."""
    count_where: str = """SELECT json_group_array(
            json_array(kind, name, status, executing, overdue, number, dead))
        FROM (SELECT s.kind, s.name, s.status, s.executing,
            s.executing = 0 AND ifnull(s.wake_us <= ?, 0) AS overdue, count(*) AS number,
            sum(s.dead_count) AS dead
            FROM {prefix}status s WHERE {where} GROUP BY 1, 2, 3, 4, 5)"""
    """(now, parameters of the condition `{where}`) -> the fields of `StatusCount`."""

    # -- what is due

    next_due: str = f"WITH {_JOBS} {_NEXT_DUE}"
    """(jobs, now) -> when something can be claimed. A few index probes for each job."""
    due: str = f"""WITH {_JOBS}, {_LEFT}, found AS MATERIALIZED (
            SELECT json_group_array(json_array(d.stream, d.job, s.version, s.hash,
                max(d.run, ifnull(l.run, 0)), d.room, d.due_us,
                l.token, l.owner, l.until_us, l.run)) AS dues,
                json_group_array(CASE WHEN s.head IS NOT NULL AND length(e.state) <= {LARGE}
                    THEN json_array(s.head, e.topic, hex(e.state)) END) AS heads
            FROM ({_DUE}) d CROSS JOIN {{prefix}}status s ON s.stream = d.stream
            LEFT JOIN {{prefix}}leases l ON l.stream = d.stream
            LEFT JOIN {{prefix}}stored_events e ON s.head IS NOT NULL
                AND e.originator_id = s.stream AND e.originator_version = s.version)
        SELECT dues, heads, CASE dues WHEN '[]' THEN ({_NEXT_DUE}) END FROM found"""
    """(jobs, now, limit, allowed, owner: see `Takeover`; left, left for: see `ClaimRequest`) ->
    what can be claimed, as `take` takes it; the heads that the status rows of these keep, each
    with topic and state of the newest event, in the same order; and, if that is nothing, when
    something can be claimed."""
    take: str = """INSERT INTO {prefix}leases (stream, job, owner, until_us, token, run)
        SELECT s.stream, j.value ->> 1, ?2, ?3, ?4, j.value ->> 4
        FROM (SELECT value FROM json_each(?1) LIMIT -1) j CROSS JOIN {prefix}status s
            ON s.stream = j.value ->> 0 AND s.version = j.value ->> 2 AND s.hash = j.value ->> 3
        LEFT JOIN {prefix}leases l ON l.stream = s.stream
        WHERE l.token IS j.value ->> 7 AND ifnull(l.until_us, 0) <= ?5
        AND j.value ->> 1 NOT IN (SELECT job FROM {prefix}job_pauses)
        AND (j.value ->> 5 IS NULL OR j.value ->> 5 > (
            SELECT count(*) FROM {prefix}leases r WHERE r.job = j.value ->> 1 AND r.run = 1))
        ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner,
            until_us = excluded.until_us, token = excluded.token, run = excluded.run"""
    """(what `due` has found, owner, until, token, now): leases on those that are as they were."""
    taken: str = """SELECT json_group_array(l.stream) FROM json_each(?1) j
        JOIN {prefix}leases l ON l.stream = j.value ->> 0 AND l.token = ?2"""
    """(what `due` has found, token) -> the streams that were taken."""
    stranded_runs: str = f"""SELECT (SELECT json_group_array(stream) FROM (
            SELECT s.stream FROM {{prefix}}status s
            WHERE s.executing = 1 AND s.updated_us < ?1 AND {_NO_LEASE} LIMIT ?2)),
        (SELECT count(*) || '.' || ifnull(sum(wake_us % 1000000007), 0)
            FROM {{prefix}}status WHERE wake_us IS NOT NULL)
        = (SELECT count(*) || '.' || ifnull(sum(due_us % 1000000007), 0)
            FROM {{prefix}}alarms)"""
    """(before, limit) -> streams with an open run and no lease; then whether alarms agree.

    Alarms and status rows are made of the same values: if their numbers and sums agree, no alarm
    is missing. That takes a tenth of a second for a million rows, and no index that every append
    would have to write."""
    stranded_alarms: str = f"""SELECT json_group_array(stream) FROM (
        SELECT s.stream FROM {{prefix}}status s
        WHERE s.wake_us IS NOT NULL AND s.executing = 0 AND s.updated_us < ?1
        AND NOT EXISTS (SELECT 1 FROM {{prefix}}alarms a WHERE a.stream = s.stream)
        AND {_NO_LEASE} LIMIT ?2)"""
    """(before, limit) -> streams to be woken that have no alarm and no lease."""

    # -- leases

    leases: str = """SELECT json_group_array(json_array(
            stream, owner, until_us, token, run, topic, hex(state)))
        FROM (SELECT l.*, e.topic, e.state FROM {prefix}leases l
            LEFT JOIN {prefix}stored_events e
            ON e.originator_id = l.stream AND e.originator_version = l.token
            ORDER BY l.stream LIMIT ?)"""
    """(limit) -> [[stream, owner, until, token, run, topic, state in hex], …]"""
    renew: str = "UPDATE {prefix}leases SET until_us = ? WHERE owner = ?"
    """(until, owner)"""
    cut_workers: str = """UPDATE {prefix}workers
        SET seen_us = ?1, until_us = ?1 + until_us - seen_us WHERE seen_us > ?1"""
    """(now): those that were seen in the future, by a clock that was ahead."""
    cut_leases: str = """UPDATE {prefix}leases SET until_us = ?1 + length FROM (
            SELECT l.stream AS cut, ifnull(w.until_us - w.seen_us, ?2) AS length
            FROM {prefix}leases l LEFT JOIN {prefix}workers w ON w.worker = l.owner)
        WHERE stream = cut AND until_us > ?1 + length"""
    """(now, length of leases whose owner is not known): to no longer than a lease lasts."""
    leases_of: str = """SELECT json_group_array(json_array(stream, token))
        FROM {prefix}leases WHERE owner = ?"""
    """(owner) -> [[stream, token], …]"""
    lease_tokens: str = """SELECT json_group_array(json_array(stream, token))
        FROM {prefix}leases WHERE stream IN (SELECT value FROM json_each(?))"""
    """(streams as JSON) -> [[stream, token], …]"""
    release: str = """DELETE FROM {prefix}leases WHERE owner = ? AND (stream, token) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"""
    """(owner, [stream, token] pairs as JSON)"""

    # -- kept replies

    kept_replies: str = """SELECT json_group_array(json_array(
            k.stream, k.key, k.action, k.fingerprint, k.body, k.expires_us))
        FROM json_each(?) j JOIN {prefix}kept_replies k
        ON k.stream = json_extract(j.value, '$[0]') AND k.key = json_extract(j.value, '$[1]')"""
    """([stream, key] pairs as JSON) -> [[stream, key, action, …], …]"""
    forget_key: str = "DELETE FROM {prefix}kept_replies WHERE stream = ? AND key = ?"
    """(stream, key)"""
    purge_kept_replies: str = """DELETE FROM {prefix}kept_replies WHERE rowid IN (
        SELECT rowid FROM {prefix}kept_replies WHERE expires_us <= ?
        ORDER BY expires_us LIMIT ?)"""
    """(now, limit)"""
    facts: str = """SELECT
        (SELECT json_group_array(json_array(stream, version, hash)) FROM {prefix}status
            WHERE stream IN (SELECT value FROM json_each(?1))),
        (SELECT json_group_array(json_array(stream, token)) FROM {prefix}leases
            WHERE stream IN (SELECT value FROM json_each(?1))),
        (SELECT json_group_array(json_array(k.stream, k.key, k.expires_us))
            FROM json_each(?2) j JOIN {prefix}kept_replies k
            ON k.stream = json_extract(j.value, '$[0]')
            AND k.key = json_extract(j.value, '$[1]')),
        (SELECT json_group_array(job) FROM {prefix}job_pauses),
        (SELECT json_group_array(json_array(m.target, m.sender, m.version))
            FROM json_each(?3) j JOIN {prefix}received m
            ON m.target = json_extract(j.value, '$[0]')
            AND m.sender = json_extract(j.value, '$[1]')),
        (SELECT json_group_array(i.n) FROM {prefix}inbox i JOIN json_each(?4) j ON i.n = j.value)"""
    """(streams, [stream, key] pairs, [target, sender] pairs, numbers of rows of the inbox, each as
    JSON) -> the fields of `RecordedFacts`, as lists."""

    # -- messages

    messages_due: str = """SELECT json_group_array(sender) FROM (
        SELECT f.sender FROM {prefix}outbox f
        WHERE f.job IN (SELECT value FROM json_each(?1)) AND f.due_us <= ?2 AND NOT EXISTS (
            SELECT 1 FROM {prefix}outbox e WHERE e.sender = f.sender
            AND e.target = f.target AND e.version < f.version)
        GROUP BY f.sender ORDER BY min(f.due_us) LIMIT ?3)"""
    """(jobs as JSON, now, limit) -> senders"""
    messages_of: str = """SELECT json_group_array(json_array(
            sender, version, target, sent_us, due_us, held, topic, hex(state)))
        FROM (SELECT o.*, e.topic, e.state
            FROM (SELECT *, row_number() OVER (PARTITION BY sender, target ORDER BY version)
                AS place FROM {prefix}outbox
                WHERE sender IN (SELECT value FROM json_each(?1))
                ORDER BY place, sender, version LIMIT ?2) o
            JOIN {prefix}stored_events e
            ON e.originator_id = o.sender AND e.originator_version = o.version
            ORDER BY o.sender, o.version)"""
    """(senders as JSON, limit) -> the fields of `Message`, the event as topic and state in hex"""
    hold_message: str = """UPDATE {prefix}outbox SET held = ?, due_us = ?
        WHERE sender = ? AND target = ? AND version = ?"""
    """(why, until, sender, target, version)"""
    forget_messages: str = """DELETE FROM {prefix}outbox WHERE (sender, target, version) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
            json_extract(value, '$[2]') FROM json_each(?))"""
    """([sender, target, version] as JSON)"""

    # -- followers

    positions: str = """SELECT json_group_array(json_array(name, position))
        FROM {prefix}positions"""
    """() -> [[name, position], …]"""
    put_position: str = """INSERT INTO {prefix}positions AS p (name, position)
        VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position
        WHERE p.position < excluded.position"""
    """(name, position)"""

    # -- the inbox

    inbox_rows: str = f"""SELECT json_group_array(json_array({_INBOX})) FROM (
        SELECT * FROM {{prefix}}inbox i
        WHERE i.job IN (SELECT value FROM json_each(?1)) AND i.retry_us <= ?2 AND NOT i.refused
        AND NOT EXISTS (SELECT 1 FROM {{prefix}}inbox h
            WHERE h.stream = i.stream AND h.n < i.n AND h.retry_us > 0 AND h.retry_us > ?2)
        ORDER BY i.n LIMIT ?3) i"""
    """(jobs as JSON, now, limit) -> rows of `InboxRow`"""
    inbox_list: str = f"""SELECT json_group_array(json_array({_INBOX})) FROM (
        SELECT * FROM {{prefix}}inbox WHERE n > ? ORDER BY n LIMIT ?) i"""
    """(after, limit) -> rows of `InboxRow`"""
    inbox_hold: str = "UPDATE {prefix}inbox SET retry_us = ?, error = ?, refused = ? WHERE n = ?"
    inbox_retry: str = "UPDATE {prefix}inbox SET retry_us = 0, refused = 0 WHERE n = ?"
    inbox_drop: str = "DELETE FROM {prefix}inbox WHERE n = ?"
    inbox_put: str = """INSERT INTO {prefix}inbox (id, job, stream, body, at_us)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
        FROM json_each(?) ORDER BY key"""
    """([[id, job, stream, body, at], …])"""

    # -- workers and job pauses

    put_worker: str = f"""INSERT OR REPLACE INTO {{prefix}}workers ({_WORKER})
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    """(the fields of `WorkerRow`, with the jobs as JSON)"""
    forget_workers: str = "DELETE FROM {prefix}workers WHERE until_us < ?"
    """(before)"""
    remove_worker: str = "DELETE FROM {prefix}workers WHERE worker = ?"
    """(worker)"""
    workers: str = f"""SELECT json_group_array(json_array({_WORKER})) FROM (
        SELECT * FROM {{prefix}}workers WHERE until_us > ? ORDER BY worker)"""
    """(now) -> the fields of `WorkerRow`, with the jobs as JSON"""
    pause_job: str = f"""INSERT OR IGNORE INTO {{prefix}}job_pauses ({_JOB_PAUSE})
        VALUES (?, ?, ?, ?)"""
    """(the fields of `JobPauseRow`)"""
    resume_job: str = "DELETE FROM {prefix}job_pauses WHERE job = ?"
    """(job)"""
    job_pause: str = f"SELECT {_JOB_PAUSE} FROM {{prefix}}job_pauses WHERE job = ?"
    """(job) -> its pause; no row if it is not paused."""
    job_pauses: str = f"SELECT json_group_array(json_array({_JOB_PAUSE})) FROM {{prefix}}job_pauses"
    """() -> [[job, reason, actor, since], …]"""

    @classmethod
    def of(cls, prefix: str) -> Queries:
        """The statements for tables whose names begin with `prefix`."""
        return cls(*(template.replace("{prefix}", prefix) for template in astuple(cls())))
