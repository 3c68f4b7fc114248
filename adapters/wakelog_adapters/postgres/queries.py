"""The statements of the PostgreSQL store, built once for each schema.

Where a query looks up many keys it does so key by key (`LATERAL … OFFSET 0`): for a table that is
small, or that the server has not analysed yet, the planner would scan it, and keep to that plan of
a prepared statement while the table grows.
"""

from __future__ import annotations

import itertools
import re

from msgspec import Struct
from msgspec.structs import astuple

from wakelog.ports.inbox import InboxRow
from wakelog.ports.rows import JobPauseRow, StatusRow, WorkerRow
from wakelog_adapters.sql.listing import Dialect
from wakelog_adapters.sql.pools import EXCEPTION, SEGMENT, TAKEN
from wakelog_projections.inline.alarms import NO_RUN

__all__ = ["DIALECT", "NO_LIMIT", "PAGE", "Queries", "numbered"]

NO_LIMIT = -1
"""In an array of limits: a null in it is a word if `array_nulls` is off, and a pooler has it so."""
PAGE = 1_000
"""How many events one query reads: as many as are turned into objects at a time."""

DIALECT = Dialect(placeholder="%s", has_id_prefix="starts_with(s.id, ?)")

_INBOX = ", ".join(f"i.{column}" for column in InboxRow._fields)
_JOB_PAUSE = ", ".join(JobPauseRow._fields)
_WORKER = ", ".join(WorkerRow._fields)
_STATUS = ", ".join(f"s.{column}" for column in StatusRow.__struct_fields__)
_SET_WORKER = ", ".join(f"{column} = excluded.{column}" for column in WorkerRow._fields[1:])

# -- parts of the queries for what is due and for what is stranded

_STARTS_NONE = f"a.action IN {NO_RUN}"
_STARTS_RUN = f"""a.action NOT IN {NO_RUN} AND (j.most IS NULL OR j.most > (
                SELECT count(*) FROM {{schema}}.leases r WHERE r.job = j.job AND r.run))"""
_FIRST_ALARM = """(SELECT a.due_us AS at_us FROM {schema}.alarms a
            WHERE a.job = j.job AND %s AND NOT EXISTS (SELECT FROM {schema}.leases l
                WHERE l.stream = a.stream AND l.until_us > clock.us)
            ORDER BY a.due_us LIMIT 1)"""
_NO_LEASE = "NOT EXISTS (SELECT FROM {schema}.leases l WHERE l.stream = s.stream OFFSET 0)"


class Queries(Struct, frozen=True):
    """The statements. The defaults are templates; `Queries.of(schema)` is what is executed."""

    # -- functions of the migrations: see there

    append: bytes = b"""SELECT {schema}.append_1(
        %s, %s, %s, %s::bigint, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
        %s::bigint[], %b)"""
    insert: bytes = b"SELECT {schema}.insert_1(%s, %s::bigint[], %s, %s::bytea[])"
    facts: bytes = b"SELECT {schema}.facts_1(%s, %s, %s, %s, %s, %s, %s::bigint[])"
    locked: bytes = b"SELECT {schema}.locked_1(%s, %s)"
    settle: bytes = b"SELECT {schema}.settle_1(%s, %s, %s, %s::bigint, %s)"
    claim: bytes = b"""SELECT {schema}.claim_1(
        %s, array_replace(%s::int[], -1, NULL), %s::bigint, %s::bigint, %s::int, %s, %s::bigint,
        %s::bigint, %s, %s, %s::bigint, %s, %s::bigint)"""
    set_idle_timeout: bytes = b"""SELECT set_config(
        'idle_in_transaction_session_timeout', %s, true)"""
    """(how long): for this transaction"""
    renew: bytes = b"""SELECT stream, token
        FROM {schema}.renew_1(%s, %s::bigint, %s::bigint, %s::bigint)"""

    # -- events and snapshots

    load: bytes = f"""SELECT k.stream, l.version, l.topic, l.state
        FROM unnest(%s::text[]) AS k (stream), LATERAL (
            WITH newest AS MATERIALIZED (
                SELECT version, state FROM {{schema}}.snapshots WHERE stream = k.stream
                ORDER BY version DESC LIMIT 1)
            SELECT version, NULL AS topic, state FROM newest
            UNION ALL
            SELECT version, '', convert_to(hash, 'UTF8') FROM {{schema}}.status
                WHERE stream = k.stream
            UNION ALL (
                SELECT originator_version, topic, state FROM {{schema}}.stored_events
                WHERE originator_id = k.stream
                AND originator_version >= coalesce((SELECT version FROM newest), 0)
                ORDER BY originator_version LIMIT {PAGE})
            OFFSET 0) l
        ORDER BY k.stream, l.version""".encode()
    """(streams) -> stream, version, topic, state: of each stream the newest snapshot (its topic is
    null), version and hash of the status row (its topic is empty), the snapshot's event and those
    after it."""
    events: bytes = b"""SELECT originator_version, topic, state FROM {schema}.stored_events
        WHERE originator_id = %s AND originator_version > %s AND originator_version <= %s
        ORDER BY originator_version LIMIT %s"""
    """(stream, after, upto, limit) -> version, topic, state"""
    snapshot_before: bytes = b"""SELECT version, state FROM {schema}.snapshots
        WHERE stream = %s AND version <= %s ORDER BY version DESC LIMIT 1"""
    """(stream, version) -> version, state"""

    # -- the status view

    status: bytes = f"""SELECT {_STATUS} FROM unnest(%s::text[]) AS k (stream), LATERAL (
        SELECT * FROM {{schema}}.status WHERE stream = k.stream OFFSET 0) s""".encode()
    """(streams) -> status rows"""
    list_where: bytes = f"""SELECT {_STATUS} FROM {{schema}}.status s WHERE {{where}}
        ORDER BY s.stream LIMIT %s""".encode()
    """(parameters of the condition `{where}`, limit) -> status rows in order"""
    count_where: bytes = b"""SELECT s.kind, s.name, s.status, s.executing,
            NOT s.executing AND coalesce(s.wake_us <= %s, false), count(*),
            sum(s.dead_count)::bigint
        FROM {schema}.status s WHERE {where} GROUP BY 1, 2, 3, 4, 5"""
    """(now, parameters of the condition `{where}`) -> the fields of `StatusCount`"""

    # -- what is due. `clock_us` is what leases are judged by; null: the server's clock.

    next_due: bytes = f"""WITH clock AS MATERIALIZED (
            SELECT coalesce(%(clock_us)s::bigint, {{schema}}.server_us()) AS us)
        SELECT min(at_us) FROM clock,
        unnest(%(jobs)s::text[], array_replace(%(limits)s::int[], -1, NULL)) AS j (job, most),
        LATERAL (
            {_FIRST_ALARM % _STARTS_RUN}
            UNION ALL
            {_FIRST_ALARM % _STARTS_NONE}
            UNION ALL
            (SELECT l.until_us - clock.us + %(now_us)s FROM {{schema}}.leases l
                WHERE l.job = j.job ORDER BY l.until_us LIMIT 1)) n
        WHERE j.job NOT IN (SELECT p.job FROM {{schema}}.job_pauses p)""".encode()
    """(clock_us, jobs, limits, now_us) -> when something can be claimed"""
    # Alarms and status rows are made of the same values: if their numbers and sums agree, no alarm
    # is missing. That is cheaper than to compare each with the other, and needs no index.
    stranded_runs: bytes = f"""SELECT ARRAY(
            SELECT s.stream FROM {{schema}}.status s
            WHERE s.executing AND s.updated_us < %s AND {_NO_LEASE} LIMIT %s),
        (SELECT (count(*), sum(wake_us %% 1000000007)) FROM {{schema}}.status
            WHERE wake_us IS NOT NULL)
        = (SELECT (count(*), sum(due_us %% 1000000007)) FROM {{schema}}.alarms)""".encode()
    """(before, limit) -> streams with an open run and no lease; then whether alarms agree"""
    stranded_alarms: bytes = f"""SELECT s.stream FROM {{schema}}.status s
        WHERE s.wake_us IS NOT NULL AND NOT s.executing AND s.updated_us < %s
        AND NOT EXISTS (SELECT FROM {{schema}}.alarms a WHERE a.stream = s.stream)
        AND {_NO_LEASE} LIMIT %s""".encode()
    """(before, limit) -> streams to be woken that have no alarm and no lease"""

    # -- leases

    leases: bytes = b"""SELECT l.stream, l.owner,
            l.until_us - coalesce(%(clock_us)s::bigint, {schema}.server_us()) + %(now_us)s,
            l.token, l.run, e.topic, e.state
        FROM (SELECT * FROM {schema}.leases ORDER BY stream LIMIT %(limit)s) l LEFT JOIN LATERAL (
            SELECT topic, state FROM {schema}.stored_events
            WHERE originator_id = l.stream AND originator_version = l.token OFFSET 0) e ON true
        ORDER BY l.stream"""
    """(clock_us, now_us, limit) -> stream, owner, until by the clock of now_us, token, run, and
    topic and state of the event with that token as its version"""
    release: bytes = b"""WITH mine AS MATERIALIZED (
            SELECT l.stream FROM unnest(%s::text[], %s::bigint[]) AS h (stream, token)
            JOIN {schema}.leases l ON l.stream = h.stream AND l.token = h.token
            WHERE l.owner = %s ORDER BY l.stream FOR UPDATE OF l)
        DELETE FROM {schema}.leases l USING mine WHERE l.stream = mine.stream"""
    """(streams, tokens, owner)"""
    release_claim: bytes = b"""WITH mine AS MATERIALIZED (
            SELECT l.stream FROM {schema}.leases l WHERE l.owner = %s AND l.token = %s
            ORDER BY l.stream FOR UPDATE)
        DELETE FROM {schema}.leases l USING mine WHERE l.stream = mine.stream"""
    """(owner, token)"""
    lease_tokens: bytes = b"""SELECT l.stream, l.token
        FROM unnest(%s::text[]) AS k (stream), LATERAL (
            SELECT stream, token FROM {schema}.leases WHERE stream = k.stream OFFSET 0) l"""
    """(streams) -> stream, token"""

    # -- kept replies

    kept_replies: bytes = b"""SELECT r.stream, r.key, r.action, r.fingerprint, r.body, r.expires_us
        FROM unnest(%s::text[], %s::text[]) AS k (stream, key), LATERAL (
        SELECT * FROM {schema}.kept_replies
        WHERE stream = k.stream AND key = k.key OFFSET 0) r"""
    """(streams, keys) -> stream, and the fields of `KeptReply`"""
    forget_key: bytes = b"DELETE FROM {schema}.kept_replies WHERE stream = %s AND key = %s"
    """(stream, key)"""
    purge_kept_replies: bytes = b"""DELETE FROM {schema}.kept_replies WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.kept_replies WHERE expires_us <= %s
        ORDER BY expires_us LIMIT %s FOR UPDATE SKIP LOCKED))"""
    """(now, limit)"""

    # -- messages

    messages_due: bytes = b"""SELECT o.sender FROM unnest(%s::text[]) AS j (job), LATERAL (
            SELECT sender, due_us FROM {schema}.outbox f
            WHERE f.job = j.job AND f.due_us <= %s AND NOT EXISTS (
                SELECT FROM {schema}.outbox e WHERE e.sender = f.sender
                AND e.target = f.target AND e.version < f.version)
            ORDER BY f.due_us LIMIT %s) o
        GROUP BY o.sender ORDER BY min(o.due_us) LIMIT %s"""
    """(jobs, now, limit, limit) -> senders"""
    messages_of: bytes = b"""SELECT o.sender, o.version, o.target, o.sent_us, o.due_us, o.held,
            e.topic, e.state
        FROM (
            SELECT o.* FROM unnest(%s::text[]) AS k (sender), LATERAL (
                SELECT *, row_number() OVER (PARTITION BY target ORDER BY version) AS place
                FROM {schema}.outbox WHERE sender = k.sender OFFSET 0) o
            ORDER BY o.place, o.sender, o.version LIMIT %s) o
        JOIN LATERAL (SELECT topic, state FROM {schema}.stored_events
            WHERE originator_id = o.sender AND originator_version = o.version OFFSET 0) e ON true
        ORDER BY o.sender, o.version"""
    """(senders, limit) -> the fields of `Message`, the event as topic and state"""
    hold_message: bytes = b"""UPDATE {schema}.outbox SET held = %s, due_us = %s
        WHERE sender = %s AND target = %s AND version = %s"""
    """(why, until, sender, target, version)"""
    forget_messages: bytes = b"""DELETE FROM {schema}.outbox o
        USING unnest(%s::text[], %s::text[], %s::bigint[]) AS k (sender, target, version)
        WHERE o.sender = k.sender AND o.target = k.target AND o.version = k.version"""
    """(senders, targets, versions)"""

    # -- followers

    positions: bytes = b"SELECT name, position FROM {schema}.positions"
    """() -> name, position"""
    put_position: bytes = b"""INSERT INTO {schema}.positions AS p (name, position)
        VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET position = excluded.position
        WHERE p.position < excluded.position"""
    """(name, position)"""

    # -- workers

    put_worker: bytes = f"""INSERT INTO {{schema}}.workers ({_WORKER})
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (worker) DO UPDATE SET {_SET_WORKER}""".encode()
    """(the fields of `WorkerRow`, with the jobs as JSON)"""
    forget_workers: bytes = b"DELETE FROM {schema}.workers WHERE until_us < %s"
    """(before)"""
    remove_worker: bytes = b"DELETE FROM {schema}.workers WHERE worker = %s"
    """(worker)"""
    workers: bytes = f"""SELECT {_WORKER} FROM {{schema}}.workers
        WHERE until_us > %s ORDER BY worker""".encode()
    """(now) -> the fields of `WorkerRow`, with the jobs as JSON"""

    # -- job pauses. To pause a job locks the table, and so waits for claims, and for appends that
    # -- begin runs: those lock it less strictly, so that those that come later see the pause.

    lock_job_pauses: bytes = b"LOCK TABLE {schema}.job_pauses IN EXCLUSIVE MODE"
    pause_job: bytes = f"""INSERT INTO {{schema}}.job_pauses AS p ({_JOB_PAUSE})
        VALUES (%s, %s, %s, %s) ON CONFLICT (job) DO UPDATE SET job = excluded.job
        RETURNING {", ".join(f"p.{column}" for column in JobPauseRow._fields)}""".encode()
    """(the fields of `JobPauseRow`) -> those of the pause that is in effect"""
    resume_job: bytes = f"""DELETE FROM {{schema}}.job_pauses WHERE job = %s
        RETURNING {_JOB_PAUSE}""".encode()
    """(job) -> the fields of its pause"""
    job_pauses: bytes = f"SELECT {_JOB_PAUSE} FROM {{schema}}.job_pauses".encode()
    """() -> the fields of `JobPauseRow`"""

    # -- the inbox

    inbox_rows: bytes = f"""SELECT {_INBOX} FROM {{schema}}.inbox i
        WHERE i.job = ANY (%(jobs)s) AND i.retry_us <= %(now_us)s AND NOT i.refused
        AND NOT EXISTS (SELECT FROM {{schema}}.inbox h
            WHERE h.stream = i.stream AND h.n < i.n AND h.retry_us > %(now_us)s)
        ORDER BY i.n LIMIT %(limit)s""".encode()
    """(jobs, now_us, limit) -> the fields of `InboxRow`"""
    inbox_list: bytes = f"""SELECT {_INBOX} FROM {{schema}}.inbox i
        WHERE i.n > %s ORDER BY i.n LIMIT %s""".encode()
    """(after, limit) -> the fields of `InboxRow`"""
    inbox_hold: bytes = b"""UPDATE {schema}.inbox SET retry_us = %s, error = %s, refused = %s
        WHERE n = %s"""
    """(retry, error, refused, number)"""
    inbox_retry: bytes = b"""UPDATE {schema}.inbox SET retry_us = 0, refused = false
        WHERE n = %s"""
    """(number)"""
    inbox_drop: bytes = b"DELETE FROM {schema}.inbox WHERE n = %s"
    """(number)"""
    inbox_place: bytes = b"""SELECT (SELECT oid::bigint FROM pg_catalog.pg_database
            WHERE datname = pg_catalog.current_database()),
        (SELECT c.oid::bigint FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = '{schema}' AND c.relname = 'inbox'),
        (SELECT system_identifier FROM pg_catalog.pg_control_system())"""
    """() -> what tells this inbox from those of all other servers, databases and schemas"""
    inbox_put: bytes = b"""WITH put AS (
            INSERT INTO {schema}.inbox (id, job, stream, body, at_us)
            SELECT e.one ->> 0, e.one ->> 1, e.one ->> 2, e.one ->> 3, (e.one ->> 4)::bigint
            FROM pg_catalog.json_array_elements(%s::json) WITH ORDINALITY AS e (one, at)
            ORDER BY e.at)
        SELECT 1 FROM pg_catalog.pg_notify('wakelog_{schema}', 'sent 0 inbox 0')"""
    """([[id, job, stream, body, at], …]): the notification goes out with the commit"""

    # -- pools

    begin: bytes = b"BEGIN ISOLATION LEVEL READ COMMITTED"
    """So that what is read after a lock was waited for is what was committed before it was had."""
    set_lock_timeout: bytes = b"SELECT set_config('lock_timeout', %s, true)"
    """(how long to wait)"""
    lock_log: bytes = b"LOCK TABLE {schema}.ordering IN SHARE UPDATE EXCLUSIVE MODE"
    pool_look: bytes = b"""SELECT number, state, seen FROM {schema}.pool_look_1(
        %s, %s, %s, %s, %s::bigint, %s::bigint, %s::text[], %s::int, %s::bigint[], %s::bigint[],
        %s, %s::text[], %s, %s::bigint[])"""
    pool_write: bytes = b"""SELECT {schema}.pool_write_1(
        %s, %s, %s::bigint, %s::bigint, %b, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::bigint[],
        %s, %b)"""
    pool_slices: bytes = f"""SELECT {SEGMENT}, s.lines FROM {{schema}}.pool_slices_1(
        %s, %s, %s::bigint[], %s::bigint[], %s::bigint[]) s""".encode()
    pool_jobs: bytes = b"""SELECT DISTINCT pool FROM {schema}.pool_states ORDER BY pool"""
    """() -> the jobs"""
    pool_taken: bytes = f"""SELECT {TAKEN} FROM {{schema}}.pool_taken t
        WHERE t.pool = %s AND t.lane = %s AND t.upto >= %s ORDER BY t.upto LIMIT 1""".encode()
    """(pool, lane, place) -> the fields of `TakenRow`"""
    pool_trail: bytes = b"""SELECT t.lane, t.off, t.stream, t.version
        FROM {schema}.pool_trail t LEFT JOIN LATERAL (
            SELECT notification_id FROM {schema}.stored_events
            WHERE originator_id = t.stream AND originator_version = t.version OFFSET 0) e ON true
        WHERE t.pool = %s AND t.lane = %s AND t.off = %s
        ORDER BY e.notification_id, t.stream, t.version"""
    """(pool, lane, place) -> the fields of `TrailRow`"""
    pool_exceptions: bytes = f"""SELECT {EXCEPTION} FROM {{schema}}.pool_exceptions x
        WHERE x.pool = %s AND (x.lane, x.off) > (%s, %s) ORDER BY x.lane, x.off LIMIT %s""".encode()
    """(pool, lane, place, limit) -> the fields of `ExceptionRow`"""
    pool_exceptions_why: bytes = f"""SELECT {EXCEPTION}
        FROM unnest(%(why)s::text[]) AS w (why), LATERAL (
            SELECT * FROM {{schema}}.pool_exceptions
            WHERE pool = %(pool)s AND why = w.why AND (lane, off) > (%(lane)s, %(off)s)
            ORDER BY lane, off LIMIT %(limit)s) x
        ORDER BY x.lane, x.off LIMIT %(limit)s""".encode()
    """(why, pool, lane, off, limit), with one why at least -> the fields of `ExceptionRow`"""
    pool_exceptions_key: bytes = f"""SELECT {EXCEPTION} FROM {{schema}}.pool_exceptions x
        WHERE x.pool = %s AND x.key = %s AND (x.lane, x.off) > (%s, %s)
        AND (%s::text[] = '{{}}' OR x.why = ANY (%s)) ORDER BY x.lane, x.off LIMIT %s""".encode()
    """(pool, key, lane, place, why, why, limit) -> the fields of `ExceptionRow`"""
    pool_blocked: bytes = b"""SELECT k.key, x.seq FROM unnest(%s::text[]) AS k (key), LATERAL (
        SELECT seq FROM {schema}.pool_exceptions
        WHERE pool = %s AND key = k.key AND why <> 'dead' ORDER BY seq LIMIT 1) x"""
    """(keys, pool) -> key, number"""

    @classmethod
    def of(cls, schema: str) -> Queries:
        """The statements for tables and functions in `schema`."""
        return cls(*(each.replace(b"{schema}", schema.encode()) for each in astuple(cls())))


def numbered(sql: bytes) -> bytes:
    """`sql` as libpq takes it: with `$1`, `$2`, … for its parameters."""
    numbers = itertools.count(1)
    return re.sub(rb"%[sb]", lambda _: b"$%d" % next(numbers), sql)
