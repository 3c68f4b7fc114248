"""What is asked of the server, as SQL.

Where a query looks up many keys it does so key by key (`LATERAL … OFFSET 0`): for a table that is
small, or that the server knows nothing about yet, the planner would walk it, and keep to that plan
of a prepared statement while the table grows.
"""

from __future__ import annotations

import itertools
import re

from wakelog.ports.rows import JobPauseRow, Listing, StatusRow, WorkerRow

__all__ = ["PAGE", "Queries", "listing_where"]

PAGE = 1_000
"""How many events are read in one go: so many are turned into objects at a time."""

_STATUS = ", ".join(f"s.{column}" for column in StatusRow.__struct_fields__)
_JOB_PAUSE = ", ".join(JobPauseRow._fields)
_PUT_JOB_PAUSE = f"""INSERT INTO {{schema}}.job_pauses ({_JOB_PAUSE}) VALUES (%s, %s, %s, %s)
    ON CONFLICT (job) DO UPDATE SET job = excluded.job
    RETURNING {", ".join(f"job_pauses.{column}" for column in JobPauseRow._fields)}"""
_WORKER = ", ".join(WorkerRow._fields)

_APPEND = """SELECT {schema}.append_1(
    %s, %s, %s::bigint, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %b)"""
_COUNT = """SELECT s.kind, s.name, s.status, s.executing,
        NOT s.executing AND coalesce(s.wake_us <= %s, false), count(*)
    FROM {schema}.status s WHERE """
_HELD = """SELECT l.stream, l.owner,
        l.until_us - coalesce(%(clock_us)s::bigint, {schema}.server_us()) + %(now_us)s,
        l.token, l.run, e.topic, e.state
    FROM (SELECT * FROM {schema}.leases ORDER BY stream LIMIT %(limit)s) l LEFT JOIN LATERAL (
        SELECT topic, state FROM {schema}.stored_events
        WHERE originator_id = l.stream AND originator_version = l.token OFFSET 0) e ON true
    ORDER BY l.stream"""

_FIRST_ALARM = """(SELECT a.due_us AS at_us FROM {schema}.alarms a
            WHERE a.job = j.job AND %s AND NOT EXISTS (SELECT FROM {schema}.leases l
                WHERE l.stream = a.stream AND l.until_us > clock.us)
            ORDER BY a.due_us LIMIT 1)"""
_OF_A_RUN = """a.action NOT IN ('clear', 'deferred') AND (j.most IS NULL OR j.most > (
                SELECT count(*) FROM {schema}.leases r WHERE r.job = j.job AND r.run))"""
_NEXT_DUE = f"""WITH clock AS MATERIALIZED (
        SELECT coalesce(%(clock_us)s::bigint, {{schema}}.server_us()) AS us)
    SELECT min(at_us) FROM clock,
    unnest(%(jobs)s::text[], %(limits)s::int[]) AS j (job, most), LATERAL (
        {_FIRST_ALARM % _OF_A_RUN}
        UNION ALL
        {_FIRST_ALARM % "a.action IN ('clear', 'deferred')"}
        UNION ALL
        (SELECT l.until_us - clock.us + %(now_us)s FROM {{schema}}.leases l
            WHERE l.job = j.job ORDER BY l.until_us LIMIT 1)) n
    WHERE j.job NOT IN (SELECT h.job FROM {{schema}}.job_pauses h)"""


class Queries:
    """The statements, for tables in `schema`."""

    def __init__(self, schema: str) -> None:
        def sql(text: str) -> bytes:
            return text.replace("{schema}", schema).encode()

        # -- functions of the migrations
        self.append = sql(_APPEND)
        self.append_numbered = _numbered(self.append)
        """As libpq itself has it."""
        self.insert = sql("SELECT {schema}.insert_1(%s, %s::bigint[], %s, %s::bytea[])")
        self.facts = sql("SELECT {schema}.facts_1(%s, %s, %s)")
        self.settle = sql("SELECT {schema}.settle_1(%s, %s, %s, %s::bigint, %s)")
        self.claim = sql(
            "SELECT {schema}.claim_1(%s, %s, %s::int[], %s::bigint, %s::bigint, %s::int)"
        )
        self.renew = sql(
            "SELECT stream, token FROM {schema}.renew_1(%s, %s::bigint, %s::bigint, %s::bigint)"
        )

        # -- small writes, each in one statement
        self.release = sql("""WITH mine AS MATERIALIZED (
                SELECT l.stream FROM unnest(%s::text[], %s::bigint[]) AS h (stream, token)
                JOIN {schema}.leases l ON l.stream = h.stream AND l.token = h.token
                WHERE l.owner = %s ORDER BY l.stream FOR UPDATE OF l)
            DELETE FROM {schema}.leases l USING mine WHERE l.stream = mine.stream""")
        self.forget_key = sql("DELETE FROM {schema}.kept_replies WHERE stream = %s AND key = %s")
        self.purge_kept_replies = sql("""DELETE FROM {schema}.kept_replies WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.kept_replies WHERE expires_us <= %s
            ORDER BY expires_us LIMIT %s FOR UPDATE SKIP LOCKED))""")
        sets = ", ".join(f"{column} = excluded.{column}" for column in WorkerRow._fields[1:])
        self.put_worker = sql(
            f"INSERT INTO {{schema}}.workers ({_WORKER}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            f" ON CONFLICT (worker) DO UPDATE SET {sets}"
        )
        self.forget_workers = sql("DELETE FROM {schema}.workers WHERE until_us < %s")
        self.remove_worker = sql("DELETE FROM {schema}.workers WHERE worker = %s")

        # Table locks: a hold waits for the claims that have begun, and those after it see it.
        self.lock_job_pauses = sql("LOCK TABLE {schema}.job_pauses IN EXCLUSIVE MODE")
        self.paused_jobs = sql("SELECT job FROM {schema}.job_pauses FOR KEY SHARE")
        self.pause_job = sql(_PUT_JOB_PAUSE)
        self.resume_job = sql(
            f"DELETE FROM {{schema}}.job_pauses WHERE job = %s RETURNING {_JOB_PAUSE}"
        )
        self.job_pauses = sql(f"SELECT {_JOB_PAUSE} FROM {{schema}}.job_pauses")

        # -- events and snapshots
        self.load = sql(f"""SELECT k.stream, l.version, l.topic, l.state
            FROM unnest(%s::text[]) AS k (stream), LATERAL (
                WITH newest AS MATERIALIZED (
                    SELECT version, state FROM {{schema}}.snapshots WHERE stream = k.stream
                    ORDER BY version DESC LIMIT 1)
                SELECT version, NULL AS topic, state FROM newest
                UNION ALL (
                    SELECT originator_version, topic, state FROM {{schema}}.stored_events
                    WHERE originator_id = k.stream
                    AND originator_version > coalesce((SELECT version FROM newest), 0)
                    ORDER BY originator_version LIMIT {PAGE})
                OFFSET 0) l
            ORDER BY k.stream, l.version""")
        self.events = sql("""SELECT originator_version, topic, state FROM {schema}.stored_events
            WHERE originator_id = %s AND originator_version > %s AND originator_version <= %s
            ORDER BY originator_version LIMIT %s""")
        self.snapshot_before = sql("""SELECT version, state FROM {schema}.snapshots
            WHERE stream = %s AND version <= %s ORDER BY version DESC LIMIT 1""")

        # -- views
        self.status = sql(f"""SELECT {_STATUS} FROM unnest(%s::text[]) AS k (stream), LATERAL (
            SELECT * FROM {{schema}}.status WHERE stream = k.stream OFFSET 0) s""")
        self.kept_replies = sql("""SELECT
            a.stream, a.key, a.action, a.fingerprint, a.body, a.expires_us
            FROM unnest(%s::text[], %s::text[]) AS k (stream, key), LATERAL (
            SELECT * FROM {schema}.kept_replies
            WHERE stream = k.stream AND key = k.key OFFSET 0) a""")
        self.workers = sql(
            f"SELECT {_WORKER} FROM {{schema}}.workers WHERE until_us > %s ORDER BY worker"
        )
        self.next_due = sql(_NEXT_DUE)
        no_lease = "NOT EXISTS (SELECT FROM {schema}.leases l WHERE l.stream = s.stream OFFSET 0)"
        # Alarms and status rows are made of the same: where their numbers and sums agree, no alarm
        # is missing. That is cheaper than to hold each against the other, and needs no index.
        self.stranded_runs = sql(f"""SELECT ARRAY(
                SELECT s.stream FROM {{schema}}.status s
                WHERE s.executing AND s.updated_us < %s AND {no_lease} LIMIT %s),
            (SELECT (count(*), sum(wake_us %% 1000000007)) FROM {{schema}}.status
                WHERE wake_us IS NOT NULL)
            = (SELECT (count(*), sum(due_us %% 1000000007)) FROM {{schema}}.alarms)""")
        self.stranded_alarms = sql(f"""SELECT s.stream FROM {{schema}}.status s
            WHERE s.wake_us IS NOT NULL AND NOT s.executing AND s.updated_us < %s
            AND NOT EXISTS (SELECT FROM {{schema}}.alarms a WHERE a.stream = s.stream)
            AND {no_lease} LIMIT %s""")
        self._list = sql(f"SELECT {_STATUS} FROM {{schema}}.status s WHERE ")

        self._count = sql(_COUNT)
        self.leases = sql(_HELD)

    def count(self, where: str) -> bytes:
        """(now, …) -> kind, name, status, executing, overdue, number."""
        return self._count + f"{where} GROUP BY 1, 2, 3, 4, 5".encode()

    def list(self, where: str) -> bytes:
        """(… , limit) -> status rows by stream."""
        return self._list + f"{where} ORDER BY s.stream LIMIT %s".encode()


def _numbered(sql: bytes) -> bytes:
    """`sql` with `$1`, `$2`, … for its parameters."""
    numbers = itertools.count(1)
    return re.sub(rb"%[sb]", lambda _: b"$%d" % next(numbers), sql)


def listing_where(listing: Listing) -> tuple[str, list[object]]:
    """The condition for a page of living or of waking instances, and its parameters."""
    first = "s.wake_us IS NOT NULL" if listing.waking else "s.status <> 'not_found'"
    conditions: list[tuple[str, tuple[object, ...]]] = [(first, ())]
    after = listing.after or ""
    if listing.kind is not None:
        # One range of the primary key; ";" is the character after ":".
        start = listing.kind if listing.name is None else f"{listing.kind}:{listing.name}"
        after = max(after, f"{start}:")
        conditions.append(("s.stream < %s", (f"{start};",)))
    elif listing.name is not None:
        conditions.append(("s.name = %s", (listing.name,)))
    conditions.append(("s.stream > %s", (after,)))
    if listing.status is not None:
        conditions.append(("s.status = %s", (listing.status,)))
    if listing.id_prefix is not None:
        conditions.append(("starts_with(s.id, %s)", (listing.id_prefix,)))
    if listing.due_before_us is not None:
        conditions.append(("s.wake_us < %s", (listing.due_before_us,)))
    if listing.error_type is not None:
        conditions.append(("s.error_type = %s", (listing.error_type,)))
    if listing.updated_after_us is not None:
        conditions.append(("s.updated_us > %s", (listing.updated_after_us,)))
    where = " AND ".join(condition for condition, _ in conditions)
    return where, [value for _, values in conditions for value in values]
