-- compatible since: 1
-- The schema of the PostgreSQL store. {schema} is the one of the store's URL, wakelog unless given.
-- Times are microseconds since 1970 in UTC.
--
-- The log
--   stored_events      the events, as the eventsourcing library stores them
--   snapshots          folded instances: short cuts, never the truth
-- Views, written in the append's own transaction and rebuilt from the log
--   status             one row for each instance, also after a clear
--   alarms             what each instance must be woken for next; no row if nothing is due
-- Tables that no rebuild may touch
--   leases             which worker works on which instance; they end by the clock of this server
--   kept_replies       replies to requests with an idempotency key
--   outbox             messages to other jobs that are to be delivered
--   received           the newest message that each target has taken of each sender
--   positions          how far the followers of the log are
--   job_pauses         jobs that are paused as a whole
--   workers            workers, and the jobs they can run
--   run_limits         the jobs with a limit on their runs, whose leases one claim at a time counts
--   ordering           what a writer of events locks; empty
--   abandoned_appends  calls of append_1 and pool_look_1 that must be refused if they still arrive
--   inbox              events that callers have sent in transactions of their own, until they are taken
--                      up
--   pool_states        of each pool the document that its calls are planned by
--   pool_segments      where in the log the items of each lane are
--   pool_taken         which take had which items of a lane
--   pool_exceptions    items that do not simply wait in their lane
--   pool_skips         places of a lane that are to be skipped
--   pool_trail         the other events about an item
--   pool_ids           the ids that callers gave to items
--   migrations         which of these files were applied; made before the first of them is
-- Functions. The number in a name is its version: one that changes takes the next, so that two
-- versions of the package can work side by side.
--   append_1           writes units of work: all of them, or nothing
--   insert_1           writes bare events of other aggregates
--   facts_1            what the units of a refused append are judged by
--   settle_1           whether an append whose answer was lost was committed; if not, it never will be
--   claim_1            takes leases on due instances
--   renew_1            prolongs leases
--   pool_look_1        what a call of a pool is planned by; takes the locks for it
--   pool_write_1       writes what was planned, in the same transaction
--   pool_slices_1      the items of a pool's lanes, out of its events
--   server_us          the time by this server's clock

-- The ordering lock: what writes events takes it, one transaction at a time. Nothing is in it. A table,
-- since only a role with rights to it can lock it: any role of the server can take any advisory lock. The
-- mode is the weakest that excludes itself: it looks at no other session, as a stronger one does.
CREATE TABLE {schema}.ordering ();

-- The log. Positions (notification_id) are given under the ordering lock, so their order is the
-- order of the commits.
CREATE TABLE {schema}.stored_events (
    originator_id text COLLATE "C" NOT NULL,
    originator_version bigint NOT NULL,
    topic text,
    state bytea,
    notification_id bigserial,
    PRIMARY KEY (originator_id, originator_version)
) WITH (
    autovacuum_vacuum_threshold = 100000000,
    autovacuum_vacuum_scale_factor = 0.5,
    autovacuum_analyze_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.01
);

-- Bodies are read in slices, and a slice of what is not compressed reads only its own pages; besides,
-- to compress bodies of more than 2 kB cost three to five times as much as all the rest.
ALTER TABLE {schema}.stored_events ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX stored_events_notification_id_idx ON {schema}.stored_events (notification_id);

CREATE TABLE {schema}.snapshots (
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (stream, version)
);

-- The columns are the fields of `StatusRow`, in its order; then the head of the stream, which a claim
-- returns so that nothing has to be read again: only if an alarm is due soon, and it is short. No index holds a column that each append
-- changes, so that a changed row stays on its page.
CREATE TABLE {schema}.status (
    stream text COLLATE "C" NOT NULL PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    id text NOT NULL,
    version bigint NOT NULL,
    hash text NOT NULL,
    checksum bigint NOT NULL,
    status text NOT NULL,
    executing boolean NOT NULL,
    due_us bigint,
    retry_us bigint,
    clear_us bigint,
    wake_us bigint,
    created_us bigint,
    updated_us bigint NOT NULL,
    last_run_us bigint,
    event_count bigint NOT NULL,
    run_count bigint NOT NULL,
    failure_count bigint NOT NULL,
    deferred_count bigint NOT NULL,
    reason text,
    unfinished_count bigint NOT NULL,
    window_count bigint NOT NULL,
    window_opened_us bigint,
    flush_due_us bigint,
    dead_count bigint NOT NULL,
    code_error text,
    error_type text,
    last_error text,
    state text,
    head text
) WITH (fillfactor = 70);

CREATE INDEX status_executing ON {schema}.status (stream) WHERE executing;

CREATE INDEX status_dead ON {schema}.status (stream) WHERE dead_count > 0;

CREATE INDEX status_unread ON {schema}.status (stream) WHERE code_error IS NOT NULL;

CREATE TABLE {schema}.alarms (
    stream text COLLATE "C" NOT NULL PRIMARY KEY,
    job text COLLATE "C" NOT NULL,
    due_us bigint NOT NULL,
    action text NOT NULL
);

-- A limit on the runs of a job applies to the alarms that start a run, and to no others.
CREATE INDEX alarms_of_runs ON {schema}.alarms (job, due_us, stream)
    WHERE action NOT IN ('clear', 'deferred');

CREATE INDEX alarms_of_others ON {schema}.alarms (job, due_us, stream)
    WHERE action IN ('clear', 'deferred');

CREATE TABLE {schema}.leases (
    stream text COLLATE "C" NOT NULL PRIMARY KEY,
    job text COLLATE "C" NOT NULL,
    owner text NOT NULL,
    until_us bigint NOT NULL,
    token bigint NOT NULL,
    run boolean NOT NULL
);

CREATE INDEX leases_until ON {schema}.leases (job, until_us);

CREATE INDEX leases_owner ON {schema}.leases (owner);

CREATE TABLE {schema}.kept_replies (
    stream text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    action text NOT NULL,
    fingerprint text NOT NULL,
    body text NOT NULL,
    expires_us bigint,
    PRIMARY KEY (stream, key)
);

CREATE INDEX kept_replies_expire ON {schema}.kept_replies (expires_us) WHERE expires_us IS NOT NULL;

-- Messages to other jobs that are still to be delivered, and of each pair which was taken last.
CREATE TABLE {schema}.outbox (
    sender text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    job text COLLATE "C" NOT NULL,
    sent_us bigint NOT NULL,
    due_us bigint NOT NULL,
    held text,
    PRIMARY KEY (sender, target, version)
);

CREATE INDEX outbox_due ON {schema}.outbox (job, due_us);

CREATE TABLE {schema}.received (
    target text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (target, sender)
);

CREATE TABLE {schema}.positions (
    name text NOT NULL PRIMARY KEY,
    position bigint NOT NULL
);

CREATE TABLE {schema}.run_limits (
    job text COLLATE "C" NOT NULL PRIMARY KEY
);

CREATE TABLE {schema}.job_pauses (
    job text COLLATE "C" NOT NULL PRIMARY KEY,
    reason text,
    actor text,
    since_us bigint NOT NULL
);

CREATE TABLE {schema}.workers (
    worker text COLLATE "C" NOT NULL PRIMARY KEY,
    jobs text NOT NULL,
    concurrency bigint NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    started_us bigint NOT NULL,
    seen_us bigint NOT NULL,
    until_us bigint NOT NULL,
    rules text NOT NULL,
    lives_until_us bigint NOT NULL DEFAULT 0    -- by this server's clock; set by `renew_1` alone
);

-- Appends whose answer was lost and that had not been committed when `settle_1` looked: a call that
-- is still on its way under such an id is refused.
CREATE TABLE {schema}.abandoned_appends (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);

-- Only ever read by presence: rows commit in any order. A number is never given again, since a unit
-- that was made of a row deletes it by its number. An identity, so that a caller needs a right to
-- insert into this table, and no other.
CREATE TABLE {schema}.inbox (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    body text NOT NULL,
    at_us bigint NOT NULL,
    retry_us bigint NOT NULL DEFAULT 0,
    error text,
    refused boolean NOT NULL DEFAULT false
);

CREATE INDEX inbox_held ON {schema}.inbox (stream, n) WHERE retry_us > 0;

-- Pools: see `wakelog.ports.pools`. What is in these tables is in the log too. They are changed under
-- the ordering lock only. A pool's document has a new row for each call that changes it, the newest
-- with the highest number: while an old snapshot is held, one row that is updated again and again is
-- ever slower to find.
CREATE TABLE {schema}.pool_states (
    pool text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (pool, n)
);

ALTER TABLE {schema}.pool_states ALTER COLUMN state SET STORAGE EXTERNAL;

-- Rows of this one, of the takes, the skips, the trail and the ids are only ever added.
CREATE TABLE {schema}.pool_segments (
    pool text COLLATE "C" NOT NULL,
    lane bigint NOT NULL,
    upto bigint NOT NULL,
    n bigint NOT NULL,
    version bigint NOT NULL,
    at bigint NOT NULL,
    len bigint NOT NULL,
    at_us bigint NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (pool, lane, upto)
);

CREATE TABLE {schema}.pool_taken (
    pool text COLLATE "C" NOT NULL,
    lane bigint NOT NULL,
    upto bigint NOT NULL,
    partition bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (pool, lane, upto)
);

CREATE TABLE {schema}.pool_exceptions (
    pool text COLLATE "C" NOT NULL,
    lane bigint NOT NULL,
    off bigint NOT NULL,
    why text COLLATE "C" NOT NULL,
    slot bigint NOT NULL,
    priority bigint NOT NULL,
    due_us bigint,
    seq bigint NOT NULL,
    key text COLLATE "C",
    detail text NOT NULL,
    PRIMARY KEY (pool, lane, off)
);

CREATE INDEX pool_exceptions_due
    ON {schema}.pool_exceptions (pool, slot, priority, due_us, lane, off) WHERE due_us IS NOT NULL;

CREATE INDEX pool_exceptions_key
    ON {schema}.pool_exceptions (pool, key, seq) WHERE key IS NOT NULL;

CREATE INDEX pool_exceptions_why ON {schema}.pool_exceptions (pool, why, lane, off);

CREATE TABLE {schema}.pool_skips (
    pool text COLLATE "C" NOT NULL,
    lane bigint NOT NULL,
    off bigint NOT NULL,
    PRIMARY KEY (pool, lane, off)
);

CREATE TABLE {schema}.pool_trail (
    pool text COLLATE "C" NOT NULL,
    lane bigint NOT NULL,
    off bigint NOT NULL,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (pool, lane, off, stream, version)
);

CREATE TABLE {schema}.pool_ids (
    pool text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    lane bigint NOT NULL,
    off bigint NOT NULL,
    fingerprint text NOT NULL,
    at_us bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (pool, id)
);

CREATE FUNCTION {schema}.server_us() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Write units of work: all of them, or nothing. Every unit goes through here.
--
-- The order of locks is the same for all writers, so that there is no deadlock: the job pauses, if a
-- run starts; the append's own id; new status rows, by stream; existing status rows, by stream; lease rows, by stream; replies,
-- by stream and key; at last the ordering lock, held until the commit. (New rows come first:
-- inserting one may have to wait for a writer that changes a row which exists after all, but a
-- writer that changes existing rows never waits for one that only inserts.) Everything else that
-- belongs to a stream is changed under the lock on its status row. A transaction calls this once.
--
-- Whoever pauses a job locks the whole table of the pauses, with no other lock held, and so waits for
-- the appends that begin runs, and those for it. Its lock is kept until the commit here, also if no
-- job is paused: then there is no row to lock, but the table is.
--
-- A row is waited for only a moment: it is one stream's, and the others of the group would wait too.
-- The ordering lock is everybody's, as are the job pauses: they are waited for in full.
--
-- If tables are small or not yet analysed the planner would rather scan them, and keep to such a
-- plan while they grow; so scans are off.
CREATE FUNCTION {schema}.append_1(
    append_id text,         -- of this call alone
    row_timeout text,       -- how long to wait for a row
    lock_timeout text,      -- how long to wait for the ordering lock and the job pauses
    clock_us bigint,        -- added to the ends of leases; null: the time by this server's clock
    starts text[],          -- jobs of which runs start, and that must not be paused
    changed_streams json,   -- of `changed`
    changed json,           -- status rows that must exist, with the version they must have; without
                            -- what is null or 0
    created json,           -- status rows that must not exist yet
    absent text[],          -- streams that must have no status row and get none: only replies
    events json,            -- the events, and where in `blob` their states are
    alarms json,
    unset text[],           -- streams without an alarm
    required json,          -- leases that must exist
    taken json,             -- leases to take
    dropped text[],         -- streams whose lease is dropped
    replies json,
    snapshots json,
    sent json,              -- messages to put into the outbox
    received json,          -- messages that are delivered, by target and sender
    inbox bigint[],         -- rows of the inbox that must be there, and are deleted
    blob bytea              -- states of events and snapshots, one after the other
) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    expected int;
    found_count int;
BEGIN
    IF starts IS NOT NULL THEN
        PERFORM set_config('lock_timeout', append_1.lock_timeout, true);
        PERFORM FROM {schema}.job_pauses p WHERE p.job = ANY (starts) FOR KEY SHARE;
        IF FOUND THEN
            RAISE EXCEPTION 'a job is paused' USING ERRCODE = 'WK005';
        END IF;
    END IF;
    PERFORM set_config('lock_timeout', append_1.row_timeout, true);
    PERFORM pg_advisory_xact_lock('{schema}.abandoned_appends'::regclass::oid::int, hashtext(append_id));
    PERFORM FROM {schema}.abandoned_appends a WHERE a.id = append_id;
    IF FOUND THEN
        RAISE EXCEPTION 'this append was abandoned' USING ERRCODE = 'WK004';
    END IF;

    IF created IS NOT NULL THEN
        INSERT INTO {schema}.status AS s
            SELECT c.stream, c.kind, c.name, c.id, c.version, c.hash, c.checksum, c.status,
                c.executing, c.due_us, c.retry_us, c.clear_us, c.wake_us, c.created_us,
                c.updated_us, c.last_run_us, coalesce(c.event_count, 0), coalesce(c.run_count, 0),
                coalesce(c.failure_count, 0), coalesce(c.deferred_count, 0), c.reason,
                coalesce(c.unfinished_count, 0), coalesce(c.window_count, 0), c.window_opened_us,
                c.flush_due_us, coalesce(c.dead_count, 0), c.code_error, c.error_type, c.last_error,
                c.state, c.head
            FROM json_to_recordset(created) AS c (
                stream text, kind text, name text, id text, version bigint, hash text,
                checksum bigint, status text, executing boolean, due_us bigint, retry_us bigint, clear_us bigint,
                wake_us bigint, created_us bigint, updated_us bigint, last_run_us bigint,
                event_count bigint, run_count bigint, failure_count bigint, deferred_count bigint,
                reason text, unfinished_count bigint, window_count bigint, window_opened_us bigint,
                flush_due_us bigint, dead_count bigint, code_error text, error_type text,
                last_error text, state text, head text)
            ORDER BY c.stream COLLATE "C"
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> json_array_length(created) THEN
            RAISE EXCEPTION 'a stream exists already' USING ERRCODE = 'WK001';
        END IF;
    END IF;
    IF absent IS NOT NULL THEN
        PERFORM FROM {schema}.status s WHERE s.stream = ANY (absent);
        IF FOUND THEN
            RAISE EXCEPTION 'a stream exists already' USING ERRCODE = 'WK001';
        END IF;
    END IF;
    IF changed IS NOT NULL THEN
        expected := json_array_length(changed_streams);
        IF expected > 1 THEN
            PERFORM FROM {schema}.status s WHERE s.stream = ANY (ARRAY(
                SELECT json_array_elements_text(changed_streams)))
                ORDER BY s.stream FOR UPDATE;
        END IF;
        UPDATE {schema}.status s SET
            version = c.version, hash = c.hash, checksum = c.checksum, status = c.status,
            executing = c.executing,
            due_us = c.due_us, retry_us = c.retry_us, clear_us = c.clear_us, wake_us = c.wake_us,
            created_us = c.created_us, updated_us = c.updated_us, last_run_us = c.last_run_us,
            event_count = coalesce(c.event_count, 0), run_count = coalesce(c.run_count, 0), failure_count = coalesce(c.failure_count, 0),
            deferred_count = coalesce(c.deferred_count, 0), reason = c.reason,
            unfinished_count = coalesce(c.unfinished_count, 0), window_count = coalesce(c.window_count, 0),
            window_opened_us = c.window_opened_us, flush_due_us = c.flush_due_us,
            dead_count = coalesce(c.dead_count, 0), code_error = c.code_error,
            error_type = c.error_type, last_error = c.last_error, state = c.state,
            head = c.head
        FROM json_to_recordset(changed) AS c (
            stream text, base bigint, base_hash text, version bigint, hash text, checksum bigint,
            status text, executing boolean,
            due_us bigint, retry_us bigint, clear_us bigint, wake_us bigint, created_us bigint,
            updated_us bigint, last_run_us bigint, event_count bigint, run_count bigint,
            failure_count bigint, deferred_count bigint, reason text, unfinished_count bigint,
            window_count bigint, window_opened_us bigint, flush_due_us bigint, dead_count bigint,
            code_error text, error_type text, last_error text, state text, head text)
        WHERE s.stream = c.stream AND s.version = c.base AND s.hash = c.base_hash;
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> expected THEN
            RAISE EXCEPTION 'a stream is at another version' USING ERRCODE = 'WK001';
        END IF;
    END IF;

    IF required IS NOT NULL THEN
        PERFORM FROM json_to_recordset(required) AS n (stream text, token bigint)
            LEFT JOIN {schema}.leases l ON l.stream = n.stream
            WHERE l.token IS DISTINCT FROM n.token;
        IF FOUND THEN
            RAISE EXCEPTION 'a lease is gone' USING ERRCODE = 'WK002';
        END IF;
    END IF;
    IF taken IS NOT NULL OR dropped IS NOT NULL THEN
        PERFORM FROM {schema}.leases l WHERE l.stream = ANY (dropped || ARRAY(
            SELECT t.stream FROM json_to_recordset(taken) AS t (stream text)))
            ORDER BY l.stream FOR UPDATE;
        DELETE FROM {schema}.leases WHERE stream = ANY (dropped);
    END IF;
    IF taken IS NOT NULL THEN  -- apart: a client may end leases, and has no right to take one
        INSERT INTO {schema}.leases (stream, job, owner, until_us, token, run)
            SELECT t.stream, t.job, t.owner,
                t.until_us + coalesce(clock_us, {schema}.server_us()), t.token, t.run
            FROM json_to_recordset(taken) AS t (
                stream text, job text, owner text, until_us bigint, token bigint, run boolean)
            ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner,
                until_us = excluded.until_us, token = excluded.token, run = excluded.run;
    END IF;

    IF replies IS NOT NULL THEN
        DELETE FROM {schema}.kept_replies r
            USING json_to_recordset(replies) AS n (stream text, key text, now_us bigint)
            WHERE r.stream = n.stream AND r.key = n.key AND r.expires_us <= n.now_us;
        INSERT INTO {schema}.kept_replies (stream, key, action, fingerprint, body, expires_us)
            SELECT n.stream, n.key, n.action, n.fingerprint, n.body, n.expires_us
            FROM json_to_recordset(replies) AS n (
                stream text, key text, action text, fingerprint text, body text,
                expires_us bigint)
            ORDER BY n.stream COLLATE "C", n.key COLLATE "C"
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> json_array_length(replies) THEN
            RAISE EXCEPTION 'a key has been used' USING ERRCODE = 'WK003';
        END IF;
    END IF;

    IF received IS NOT NULL THEN
        INSERT INTO {schema}.received AS r (target, sender, version)
            SELECT n.target, n.sender, n.version
            FROM json_to_recordset(received) AS n (target text, sender text, version bigint)
            ORDER BY n.target COLLATE "C", n.sender COLLATE "C"
            ON CONFLICT (target, sender) DO UPDATE SET version = excluded.version
            WHERE r.version < excluded.version;
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> json_array_length(received) THEN
            RAISE EXCEPTION 'a message was taken before' USING ERRCODE = 'WK006';
        END IF;
        DELETE FROM {schema}.outbox o
            USING json_to_recordset(received) AS n (target text, sender text, version bigint)
            WHERE o.sender = n.sender AND o.target = n.target AND o.version <= n.version;
    END IF;
    IF sent IS NOT NULL THEN
        INSERT INTO {schema}.outbox (sender, target, version, job, sent_us, due_us)
            SELECT n.sender, n.target, n.version, n.job, n.sent_us, n.due_us
            FROM json_to_recordset(sent) AS n (sender text, target text, version bigint, job text,
                sent_us bigint, due_us bigint);
    END IF;
    IF inbox IS NOT NULL THEN
        DELETE FROM {schema}.inbox i WHERE i.n = ANY (append_1.inbox);
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> cardinality(append_1.inbox) THEN
            RAISE EXCEPTION 'a row of the inbox is gone' USING ERRCODE = 'WK007';
        END IF;
    END IF;

    IF alarms IS NOT NULL THEN
        INSERT INTO {schema}.alarms AS a (stream, job, due_us, action)
            SELECT n.stream, n.job, n.due_us, n.action
            FROM json_to_recordset(alarms) AS n (
                stream text, job text, due_us bigint, action text)
            ON CONFLICT (stream) DO UPDATE SET due_us = excluded.due_us, action = excluded.action
            WHERE a.due_us <> excluded.due_us OR a.action <> excluded.action;
    END IF;
    IF unset IS NOT NULL THEN
        DELETE FROM {schema}.alarms WHERE stream = ANY (unset);
    END IF;
    IF snapshots IS NOT NULL THEN
        INSERT INTO {schema}.snapshots (stream, version, state)
            SELECT n.stream, n.version, substring(blob FROM n.at FOR n.length)
            FROM json_to_recordset(snapshots) AS n (
                stream text, version bigint, at int, length int)
            ON CONFLICT (stream, version) DO UPDATE SET state = excluded.state;
    END IF;

    IF events IS NOT NULL THEN
        PERFORM set_config('lock_timeout', append_1.lock_timeout, true);
        LOCK TABLE {schema}.ordering IN SHARE UPDATE EXCLUSIVE MODE;
        INSERT INTO {schema}.stored_events (originator_id, originator_version, topic, state)
            SELECT n.stream, n.version, n.topic, substring(blob FROM n.at FOR n.length)
            FROM json_to_recordset(events) AS n (
                stream text, version bigint, topic text, at int, length int);
    END IF;
END $$;

-- Write events of other aggregates, which share the log, under the same ordering lock.
CREATE FUNCTION {schema}.insert_1(
    streams text[], versions bigint[], topics text[], states bytea[]
) RETURNS SETOF bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE {schema}.ordering IN SHARE UPDATE EXCLUSIVE MODE;
    RETURN QUERY
        INSERT INTO {schema}.stored_events (originator_id, originator_version, topic, state)
        SELECT n.* FROM unnest(streams, versions, topics, states) AS n
        RETURNING notification_id;
END $$;

-- What the units of a refused append are judged by: the versions and hashes of the streams, the tokens of
-- their leases, when the replies under the keys expire, which of the jobs are paused, which messages
-- the targets have taken of the senders, and which of the rows of the inbox are there. Locks nothing: the
-- next append checks.
CREATE FUNCTION {schema}.facts_1(
    streams text[], key_streams text[], keys text[], jobs text[], targets text[], senders text[],
    inbox bigint[]
) RETURNS json LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT json_build_array(
        ARRAY(SELECT json_build_array(s.stream, s.version, s.hash) FROM {schema}.status s
            WHERE s.stream = ANY (streams)),
        ARRAY(SELECT json_build_array(l.stream, l.token) FROM {schema}.leases l
            WHERE l.stream = ANY (streams)),
        ARRAY(SELECT json_build_array(r.stream, r.key, r.expires_us)
            FROM unnest(key_streams, keys) AS n (stream, key)
            JOIN {schema}.kept_replies r ON r.stream = n.stream AND r.key = n.key),
        ARRAY(SELECT p.job FROM {schema}.job_pauses p WHERE p.job = ANY (jobs)),
        ARRAY(SELECT json_build_array(m.target, m.sender, m.version)
            FROM unnest(targets, senders) AS n (target, sender)
            JOIN {schema}.received m ON m.target = n.target AND m.sender = n.sender),
        ARRAY(SELECT i.n FROM {schema}.inbox i WHERE i.n = ANY (facts_1.inbox)))
$$;

-- Which of these streams have a row that another session has locked. Takes free locks only, until
-- this call ends; raises if a whole table is locked.
CREATE FUNCTION {schema}.locked_1(streams text[], lock_timeout text) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    free_rows text[];
    free_leases text[];
BEGIN
    PERFORM set_config('lock_timeout', locked_1.lock_timeout, true);
    free_rows := ARRAY(SELECT s.stream FROM {schema}.status s
        WHERE s.stream = ANY (streams) FOR UPDATE SKIP LOCKED);
    free_leases := ARRAY(SELECT l.stream FROM {schema}.leases l
        WHERE l.stream = ANY (streams) FOR UPDATE SKIP LOCKED);
    RETURN ARRAY(
        SELECT s.stream FROM {schema}.status s
            WHERE s.stream = ANY (streams) AND s.stream <> ALL (free_rows)
        UNION
        SELECT l.stream FROM {schema}.leases l
            WHERE l.stream = ANY (streams) AND l.stream <> ALL (free_leases));
END $$;

-- After an answer was lost: whether the append was committed. It was if the event with this stream
-- and version has this commit id, which is at the beginning of the record. Waits for an append that
-- is still going on; one that has not begun is refused from here on. So the result stays true.
CREATE FUNCTION {schema}.settle_1(
    append_id text, lock_timeout text, stream text, version bigint, commit text
) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('lock_timeout', settle_1.lock_timeout, true);
    PERFORM pg_advisory_xact_lock('{schema}.abandoned_appends'::regclass::oid::int, hashtext(append_id));
    PERFORM FROM {schema}.stored_events e
        WHERE e.originator_id = stream AND e.originator_version = version
        AND position(convert_to('"commit":"' || commit || '"', 'UTF8')
            IN substring(e.state FROM 1 FOR 200)) > 0;
    IF FOUND THEN
        RETURN true;
    END IF;
    DELETE FROM {schema}.abandoned_appends WHERE at < now() - interval '1 day';
    INSERT INTO {schema}.abandoned_appends (id) VALUES (append_id) ON CONFLICT DO NOTHING;
    RETURN false;
END $$;

-- Take leases on up to `most` due instances, the oldest first; write nothing else. Return of each what
-- `Due` has, and whether there are leases that have ended and that the claimant could take over.
--
-- Locks the job pauses, as whoever begins a run does (see append_1), then takes free locks only, and
-- waits for none: first on the status row, which keeps all others from the stream, then on the ended
-- lease, which keeps its owner from prolonging it. What was found before the lock is checked again
-- after it. Looks no further than `most` at first; if others have locked some of what it finds it looks
-- again, and further.
--
-- If a job has a limit on its runs, a run is started only under a lock of the job's own, on its row of
-- run_limits (written by the first claim of all), so that
-- the leases of its runs can be counted; while another claim has that lock, none is started. A lease
-- that has ended counts too: taking it over is not another run, and its owner may still prolong it.
-- That is so for a run that was claimed and has never begun: its alarm is still due.
--
-- A lease whose owner lives is not taken over: another session has kept it from prolonging that row.
--
-- To plan its statements took as long as to find what is due, so they are planned once in a session;
-- then nothing may depend on how large the tables are: each row is looked up by its key (OFFSET 0),
-- and what is due is read in the order of its index.
CREATE FUNCTION {schema}.claim_1(
    jobs text[],
    limits int[],           -- of the runs of each job; null if it has none
    now_us bigint,
    clock_us bigint,        -- the time that leases are judged by; null: this server's clock
    most int,
    claimant text,
    claim_us bigint,        -- how long its leases last
    claim_token bigint,     -- the token of all its leases
    takes_over boolean,     -- whether leases that have ended are taken over,
    spared text,            -- but none of this owner, or of one that lives,
    server_up_us bigint,    -- and none before this server has been up for so long
    passed text[],          -- streams that are left to others
    passed_us bigint        -- while their newest event is so near to now
) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    paused text[] := ARRAY(SELECT p.job FROM {schema}.job_pauses p FOR KEY SHARE);
    lease_us bigint := coalesce(clock_us, {schema}.server_us());
    ahead_us bigint := lease_us - now_us;
    is_up boolean := clock_us IS NOT NULL OR server_up_us <=
        1000000 * extract(epoch FROM clock_timestamp() - pg_postmaster_start_time());
    further int := 3 * most + 50;
    look int := most;
    living text[] := ARRAY[spared];    -- owners whose leases are left alone
    free int[];             -- how many runs of each job may be started; null: any number
    has_ended boolean := false;
    found text[];
    locked text[];
    versions bigint[];
    hashes text[];
    heads text[];
    ended text[] := '{}';
    dues json;
BEGIN
    IF paused <> '{}' THEN
        SELECT array_agg(j.job), array_agg(j.most) INTO jobs, limits
            FROM unnest(jobs, limits) AS j (job, most) WHERE j.job <> ALL (paused);
    END IF;
    takes_over := takes_over AND is_up;
    IF clock_us IS NULL THEN
        living := living || ARRAY(
            SELECT w.worker FROM {schema}.workers w WHERE w.lives_until_us > lease_us);
    END IF;
    passed := ARRAY(SELECT s.stream FROM {schema}.status s
        WHERE s.stream = ANY (passed) AND abs(s.updated_us - now_us) < passed_us);
    IF limits IS NOT NULL THEN
        INSERT INTO {schema}.run_limits (job)
            SELECT j.job FROM unnest(jobs, limits) AS j (job, most)
            WHERE j.most IS NOT NULL
            AND NOT EXISTS (SELECT FROM {schema}.run_limits r WHERE r.job = j.job)
            ORDER BY j.job COLLATE "C" ON CONFLICT DO NOTHING;
        locked := ARRAY(
            SELECT r.job FROM {schema}.run_limits r WHERE r.job = ANY (ARRAY(
                SELECT j.job FROM unnest(jobs, limits) AS j (job, most) WHERE j.most IS NOT NULL))
            FOR UPDATE SKIP LOCKED);
        free := ARRAY(
            SELECT CASE WHEN j.most IS NULL THEN further WHEN j.job = ANY (locked) THEN 0
                ELSE -1 END
            FROM unnest(jobs, limits) WITH ORDINALITY AS j (job, most, place) ORDER BY j.place);
        IF 0 = ANY (free) THEN  -- in a statement of its own: it sees what was committed before it
            free := ARRAY(
                SELECT CASE j.free WHEN 0 THEN greatest(0, j.most - (
                    SELECT count(*)::int FROM {schema}.leases l WHERE l.job = j.job AND l.run))
                    ELSE j.free END
                FROM unnest(jobs, limits, free) WITH ORDINALITY AS j (job, most, free, place)
                ORDER BY j.place);
        END IF;
    END IF;
    FOR turn IN 1..3 LOOP
        found := ARRAY(
            SELECT c.stream
            FROM unnest(jobs, free) AS j (job, free), LATERAL (
                (SELECT a.stream, a.due_us FROM {schema}.alarms a
                    WHERE a.job = j.job AND a.due_us <= now_us
                    AND a.action NOT IN ('clear', 'deferred') AND NOT EXISTS (
                        SELECT FROM {schema}.leases l
                        WHERE l.stream = a.stream AND (l.until_us > lease_us
                            OR NOT takes_over OR l.owner = ANY (living) OR l.run) OFFSET 0)
                    AND a.stream <> ALL (passed)
                    ORDER BY a.due_us, a.stream LIMIT greatest(0, least(j.free, look)))
                UNION ALL
                (SELECT a.stream, a.due_us FROM {schema}.alarms a
                    WHERE a.job = j.job AND a.due_us <= now_us
                    AND a.action IN ('clear', 'deferred') AND NOT EXISTS (
                        SELECT FROM {schema}.leases l
                        WHERE l.stream = a.stream AND (l.until_us > lease_us
                            OR NOT takes_over OR l.owner = ANY (living)) OFFSET 0)
                    AND a.stream <> ALL (passed)
                    ORDER BY a.due_us, a.stream LIMIT look)
                UNION ALL
                (SELECT l.stream, l.until_us - ahead_us FROM {schema}.leases l
                    WHERE l.job = j.job AND l.until_us <= lease_us
                    AND takes_over AND l.owner <> ALL (living)
                    AND (l.run OR NOT EXISTS (
                        SELECT FROM {schema}.alarms a
                        WHERE a.stream = l.stream AND a.due_us <= now_us
                        AND a.action NOT IN ('clear', 'deferred') OFFSET 0))
                    AND l.stream <> ALL (passed)
                    ORDER BY l.until_us LIMIT look)
            ) c GROUP BY c.stream ORDER BY min(c.due_us), c.stream LIMIT look);
        EXIT WHEN found = '{}';
        SELECT array_agg(n.stream), array_agg(n.version), array_agg(n.hash), array_agg(n.head)
            INTO locked, versions, hashes, heads
            FROM (
                SELECT l.* FROM unnest(found) AS f (stream), LATERAL (
                    SELECT s.stream, s.version, s.hash, s.head FROM {schema}.status s
                    WHERE s.stream = f.stream FOR UPDATE SKIP LOCKED) l
                LIMIT most) n;
        IF coalesce(cardinality(locked), 0) < most AND cardinality(found) >= look AND look = most THEN
            look := further;
            CONTINUE;
        END IF;
        EXIT WHEN locked IS NULL;
        IF takes_over THEN
            ended := ARRAY(
                SELECT l.stream FROM {schema}.leases l
                WHERE l.stream = ANY (locked) AND l.until_us <= lease_us AND l.owner <> ALL (living)
                FOR UPDATE SKIP LOCKED);
        END IF;
        WITH due AS MATERIALIZED (
            SELECT b.*, row_number() OVER (
                PARTITION BY b.job, b.adds ORDER BY b.due_us, b.stream) AS place
            FROM (
                SELECT n.stream, least(a.due_us, l.until_us - ahead_us) AS due_us, n.version,
                    n.hash, n.head, l.owner, l.until_us, l.token, l.run, coalesce(a.job, l.job) AS job,
                    a.action NOT IN ('clear', 'deferred') AS begins,
                    a.action NOT IN ('clear', 'deferred') AND l.run IS NOT TRUE AS adds
                FROM unnest(locked, versions, hashes, heads) AS n (stream, version, hash, head)
                LEFT JOIN LATERAL (SELECT * FROM {schema}.alarms
                    WHERE stream = n.stream AND due_us <= now_us OFFSET 0) a ON true
                LEFT JOIN LATERAL (SELECT * FROM {schema}.leases
                    WHERE stream = n.stream OFFSET 0) l ON true
                WHERE CASE WHEN l.stream IS NULL THEN a.stream IS NOT NULL
                    ELSE l.stream = ANY (ended) END
            ) b
        ), granted AS MATERIALIZED (
            SELECT d.* FROM due d WHERE free IS NULL OR d.adds IS NOT TRUE
                OR d.place <= free[array_position(jobs, d.job)]
        ), taken AS (
            INSERT INTO {schema}.leases (stream, job, owner, until_us, token, run)
                SELECT g.stream, g.job, claimant, lease_us + claim_us, claim_token,
                    coalesce(g.begins, false) OR coalesce(g.run, false)
                FROM granted g ORDER BY g.stream
                ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner,
                    until_us = excluded.until_us, token = excluded.token, run = excluded.run
        )
        SELECT json_agg(json_build_object('stream', g.stream, 'due_us', g.due_us,
                'version', g.version, 'hash', g.hash, 'expired', CASE WHEN g.owner IS NOT NULL THEN
                    json_build_object('owner', g.owner, 'until_us', g.until_us - ahead_us,
                        'token', g.token, 'run', g.run) END,
                'run', coalesce(g.begins, false) OR coalesce(g.run, false),
                'head', g.head, 'newest', CASE WHEN e.topic IS NOT NULL THEN
                    json_build_object('stream', g.stream, 'version', g.version, 'topic', e.topic,
                        'state', translate(encode(e.state, 'base64'), E'\n', '')) END)
                ORDER BY g.due_us, g.stream)
            INTO dues
            FROM granted g LEFT JOIN LATERAL (
                SELECT * FROM {schema}.stored_events
                WHERE g.head IS NOT NULL AND originator_id = g.stream
                AND originator_version = g.version AND length(state) <= 65536 OFFSET 0) e ON true;
        EXIT WHEN dues IS NOT NULL;  -- else all of it was claimed while it was looked for
    END LOOP;
    IF NOT takes_over AND is_up THEN
        has_ended := EXISTS (
            SELECT FROM unnest(jobs) AS j (job), LATERAL (
                SELECT FROM {schema}.leases l WHERE l.job = j.job AND l.until_us <= lease_us
                    AND l.owner <> ALL (living) AND l.stream <> ALL (passed) LIMIT 1) e);
    END IF;
    RETURN json_build_object('has_ended', has_ended, 'dues', coalesce(dues, '[]'));
END $$;

-- Prolong the leases of an owner, note that it lives, and return those that it holds. Waits for nothing: a lease that
-- another transaction has locked stays as it is, and counts until that has taken it over or dropped
-- it; also if it ends meanwhile, for it may be a session that only looks.
CREATE FUNCTION {schema}.renew_1(
    owner text,
    until_us bigint,        -- by the clock of `now_us`
    now_us bigint,
    clock_us bigint         -- the time that leases are judged by; null: this server's clock
) RETURNS TABLE (stream text, token bigint) LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    WITH clock AS MATERIALIZED (
        SELECT coalesce(clock_us, {schema}.server_us()) AS us
    ), free AS MATERIALIZED (
        SELECT l.stream FROM {schema}.leases l WHERE l.owner = renew_1.owner
        ORDER BY l.stream FOR UPDATE SKIP LOCKED
    ), renewed AS (
        UPDATE {schema}.leases l SET until_us = renew_1.until_us - now_us + clock.us
        FROM free, clock WHERE l.stream = free.stream AND l.owner = renew_1.owner
        RETURNING l.stream, l.token
    ), mine AS MATERIALIZED (
        SELECT w.worker FROM {schema}.workers w WHERE w.worker = renew_1.owner
        FOR UPDATE SKIP LOCKED
    ), living AS (
        UPDATE {schema}.workers w SET lives_until_us = renew_1.until_us - now_us + clock.us
        FROM mine, clock WHERE w.worker = mine.worker
    )
    SELECT r.stream, r.token FROM renewed r
    UNION
    SELECT l.stream, l.token FROM {schema}.leases l WHERE l.owner = renew_1.owner
$$;

-- What a call of a pool is planned by: the number of its newest document (0: there is none), the
-- document, and the rest as JSON, all as of one moment.
--
-- With an append id it begins a transaction in which `pool_write_1` follows: it takes the locks of an
-- append, in the same order, and keeps them until the commit. Whoever calls it plans meanwhile, and
-- all other writers wait; so if that process is stopped, the server ends the session after a while.
CREATE FUNCTION {schema}.pool_look_1(
    append_id text,         -- of this call alone; null: look, and lock nothing
    lock_timeout text,      -- how long to wait for the ordering lock and the job pauses
    idle_timeout text,      -- how long the plan may take
    pool text,
    now_us bigint,
    clock_us bigint,        -- the time that leases are judged by; null: this server's clock
    ids text[],
    due_limit int,          -- of each group of the document
    key_lanes bigint[],     -- the items to look for
    key_offs bigint[],
    with_leases boolean,
    behind text[],          -- the keys behind which items wait
    firsts text,            -- of which lanes the first segment: none, lanes, all
    inbox bigint[],         -- rows of the inbox to look for, and to lock
    OUT number bigint, OUT state bytea, OUT seen text
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    lease_us bigint;
    arrived bigint[];
BEGIN
    IF append_id IS NOT NULL THEN
        PERFORM set_config('lock_timeout', pool_look_1.lock_timeout, true),
            set_config('idle_in_transaction_session_timeout', idle_timeout, true);
        PERFORM FROM {schema}.job_pauses p WHERE p.job = pool_look_1.pool FOR KEY SHARE;
        PERFORM pg_advisory_xact_lock(
            '{schema}.abandoned_appends'::regclass::oid::int, hashtext(append_id));
        PERFORM FROM {schema}.abandoned_appends a WHERE a.id = append_id;
        IF FOUND THEN
            RAISE EXCEPTION 'this append was abandoned' USING ERRCODE = 'WK004';
        END IF;
        LOCK TABLE {schema}.ordering IN SHARE UPDATE EXCLUSIVE MODE;
    END IF;
    IF inbox IS NOT NULL THEN  -- free ones: nothing is waited for under the lock of the log
        arrived := ARRAY(SELECT i.n FROM {schema}.inbox i
            WHERE i.n = ANY (pool_look_1.inbox) FOR UPDATE SKIP LOCKED);
    END IF;
    lease_us := CASE WHEN with_leases THEN coalesce(clock_us, {schema}.server_us()) END;
    WITH newest AS MATERIALIZED (
        SELECT d.n, d.state, convert_from(d.state, 'UTF8')::json AS document
        FROM (SELECT * FROM {schema}.pool_states s WHERE s.pool = pool_look_1.pool
            ORDER BY s.n DESC LIMIT 1) d
    ), lanes AS MATERIALIZED (
        SELECT (l.lane ->> 0)::bigint AS lane, (l.lane ->> 1)::bigint AS taken,
            (l.lane ->> 2)::bigint AS skips
        FROM newest, json_array_elements(newest.document -> 'lanes') AS l (lane)
    ), looked_for AS (
        SELECT l.lane, l.taken FROM lanes l WHERE firsts <> 'none'
        UNION ALL
        SELECT (f.lane ->> 0)::bigint, (f.lane ->> 1)::bigint
        FROM newest, json_array_elements(newest.document -> 'fair') AS f (lane)
        WHERE firsts = 'all'
    ), groups AS MATERIALIZED (
        SELECT (g.one ->> 0)::bigint AS slot, (g.one ->> 1)::bigint AS priority,
            (g.one ->> 2)::bigint AS floor_us
        FROM newest, json_array_elements(newest.document -> 'groups') AS g (one)
        WHERE due_limit > 0
    )
    SELECT coalesce((SELECT n FROM newest), 0), (SELECT newest.state FROM newest), json_build_object(
        'paused', EXISTS (
            SELECT FROM {schema}.job_pauses p WHERE p.job = pool_look_1.pool)::int,
        'firsts', ARRAY(
            SELECT json_build_array(
                s.lane, s.upto, s.n, s.version, s.at, s.len, s.at_us, s.seq)
            FROM looked_for l, LATERAL (
                SELECT * FROM {schema}.pool_segments c
                WHERE c.pool = pool_look_1.pool AND c.lane = l.lane AND c.upto > l.taken
                ORDER BY c.upto LIMIT 1) s),
        'due', ARRAY(
            SELECT to_json(ARRAY(
                SELECT json_build_array(x.lane, x.off, x.why, x.slot, x.priority, x.due_us, x.seq,
                    x.key, x.detail)
                FROM {schema}.pool_exceptions x
                WHERE x.pool = pool_look_1.pool AND x.slot = g.slot AND x.priority = g.priority
                AND x.due_us >= g.floor_us
                ORDER BY x.due_us, x.lane, x.off LIMIT due_limit))
            FROM groups g),
        'ids', ARRAY(
            SELECT json_build_array(i.id, i.lane, i.off, i.fingerprint, i.at_us, i.position)
            FROM unnest(pool_look_1.ids) AS k (id), LATERAL (
                SELECT * FROM {schema}.pool_ids n
                WHERE n.pool = pool_look_1.pool AND n.id = k.id OFFSET 0) i),
        'exceptions', ARRAY(
            SELECT json_build_array(x.lane, x.off, x.why, x.slot, x.priority, x.due_us, x.seq,
                x.key, x.detail)
            FROM unnest(key_lanes, key_offs) AS k (lane, off), LATERAL (
                SELECT * FROM {schema}.pool_exceptions e
                WHERE e.pool = pool_look_1.pool AND e.lane = k.lane AND e.off = k.off OFFSET 0) x),
        'behind', ARRAY(
            SELECT to_json(ARRAY(
                SELECT json_build_array(x.lane, x.off, x.why, x.slot, x.priority, x.due_us, x.seq,
                    x.key, x.detail)
                FROM {schema}.pool_exceptions x
                WHERE x.pool = pool_look_1.pool AND x.key = k.key AND x.why = 'behind'
                ORDER BY x.seq LIMIT 16))
            FROM unnest(pool_look_1.behind) AS k (key)),
        'leases', ARRAY(
            SELECT json_build_array(l.stream, l.owner, l.token, (l.until_us <= lease_us)::int)
            FROM {schema}.leases l WHERE with_leases AND l.job = pool_look_1.pool),
        'skips', ARRAY(
            SELECT to_json(ARRAY(
                SELECT json_build_array(k.lane, k.off) FROM {schema}.pool_skips k
                WHERE k.pool = pool_look_1.pool AND k.lane = l.lane AND k.off > l.taken
                ORDER BY k.off LIMIT 1000))
            FROM lanes l WHERE l.skips > 0),
        'inbox', coalesce(arrived, ARRAY[]::bigint[]),
        'skipped', ARRAY(
            SELECT json_build_array(s.lane, s.off)
            FROM unnest(key_lanes, key_offs) AS k (lane, off), LATERAL (
                SELECT * FROM {schema}.pool_skips p
                WHERE p.pool = pool_look_1.pool AND p.lane = k.lane AND p.off = k.off OFFSET 0) s)
        )::text
        INTO number, state, seen;
END $$;

-- Write what a call of a pool has planned. The locks have been taken by `pool_look_1`.
CREATE FUNCTION {schema}.pool_write_1(
    row_timeout text,       -- how long to wait for a lease: all other writers wait meanwhile
    pool text,
    clock_us bigint,        -- added to the lengths of leases; null: the time by this server's clock
    number bigint,          -- of the newest document
    document bytea,         -- the next one
    segments json,
    taken json,
    ids json,
    gone json,
    put json,
    skips json,
    trail json,
    taken_leases json,
    dropped text[],
    sent json,              -- messages to put into the outbox
    inbox bigint[],         -- rows of the inbox that are deleted
    events json,            -- the events, and where in `blob` their states are
    blob bytea
) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF segments IS NOT NULL THEN
        INSERT INTO {schema}.pool_segments (
                pool, lane, upto, n, version, at, len, at_us, seq)
            SELECT pool_write_1.pool, r.lane, r.upto, r.n, r.version, r.at, r.len, r.at_us, r.seq
            FROM json_to_recordset(segments) AS r (lane bigint, upto bigint, n bigint,
                version bigint, at bigint, len bigint, at_us bigint, seq bigint);
    END IF;
    IF taken IS NOT NULL THEN
        INSERT INTO {schema}.pool_taken (pool, lane, upto, partition, version)
            SELECT pool_write_1.pool, r.lane, r.upto, r.partition, r.version
            FROM json_to_recordset(taken) AS r (
                lane bigint, upto bigint, partition bigint, version bigint);
    END IF;
    IF ids IS NOT NULL THEN
        INSERT INTO {schema}.pool_ids (pool, id, lane, off, fingerprint, at_us, position)
            SELECT pool_write_1.pool, r.id, r.lane, r.off, r.fingerprint, r.at_us, r.position
            FROM json_to_recordset(ids) AS r (id text, lane bigint, off bigint,
                fingerprint text, at_us bigint, position bigint);
    END IF;
    IF gone IS NOT NULL THEN
        DELETE FROM {schema}.pool_exceptions x
            USING json_to_recordset(gone) AS r (lane bigint, off bigint)
            WHERE x.pool = pool_write_1.pool AND x.lane = r.lane AND x.off = r.off;
    END IF;
    IF put IS NOT NULL THEN
        INSERT INTO {schema}.pool_exceptions (
                pool, lane, off, why, slot, priority, due_us, seq, key, detail)
            SELECT pool_write_1.pool, r.lane, r.off, r.why, r.slot, r.priority, r.due_us, r.seq,
                r.key, r.detail
            FROM json_to_recordset(put) AS r (lane bigint, off bigint, why text, slot bigint,
                priority bigint, due_us bigint, seq bigint, key text, detail text)
            ON CONFLICT ON CONSTRAINT pool_exceptions_pkey DO UPDATE SET why = excluded.why,
                slot = excluded.slot, priority = excluded.priority, due_us = excluded.due_us,
                seq = excluded.seq, key = excluded.key, detail = excluded.detail;
    END IF;
    IF skips IS NOT NULL THEN
        INSERT INTO {schema}.pool_skips (pool, lane, off)
            SELECT pool_write_1.pool, r.lane, r.off
            FROM json_to_recordset(skips) AS r (lane bigint, off bigint)
            ON CONFLICT DO NOTHING;
    END IF;
    IF trail IS NOT NULL THEN
        INSERT INTO {schema}.pool_trail (pool, lane, off, stream, version)
            SELECT pool_write_1.pool, r.lane, r.off, r.stream, r.version
            FROM json_to_recordset(trail) AS r (
                lane bigint, off bigint, stream text, version bigint)
            ON CONFLICT DO NOTHING;
    END IF;
    IF taken_leases IS NOT NULL OR dropped IS NOT NULL THEN
        PERFORM set_config('lock_timeout', row_timeout, true);
        PERFORM FROM {schema}.leases l WHERE l.stream = ANY (dropped || ARRAY(
            SELECT r.stream FROM json_to_recordset(taken_leases) AS r (stream text)))
            ORDER BY l.stream FOR UPDATE;
        DELETE FROM {schema}.leases l WHERE l.stream = ANY (dropped);
        INSERT INTO {schema}.leases (stream, job, owner, until_us, token, run)
            SELECT r.stream, pool_write_1.pool, r.owner,
                r.lasts_us + coalesce(clock_us, {schema}.server_us()), r.token, false
            FROM json_to_recordset(taken_leases) AS r (
                stream text, owner text, token bigint, lasts_us bigint)
            ORDER BY r.stream COLLATE "C"
            ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner,
                until_us = excluded.until_us, token = excluded.token, run = excluded.run;
    END IF;
    IF inbox IS NOT NULL THEN
        DELETE FROM {schema}.inbox i WHERE i.n = ANY (pool_write_1.inbox);
    END IF;
    IF document IS NOT NULL THEN
        INSERT INTO {schema}.pool_states (pool, n, state)
            VALUES (pool_write_1.pool, number + 1, document);
        DELETE FROM {schema}.pool_states s
            WHERE s.pool = pool_write_1.pool AND s.n = number - 1;
    END IF;
    IF sent IS NOT NULL THEN
        INSERT INTO {schema}.outbox (sender, target, version, job, sent_us, due_us)
            SELECT r.sender, r.target, r.version, r.job, r.sent_us, r.due_us
            FROM json_to_recordset(sent) AS r (sender text, target text, version bigint, job text,
                sent_us bigint, due_us bigint);
    END IF;
    IF events IS NOT NULL THEN  -- at last: what is refused has used no position
        INSERT INTO {schema}.stored_events (originator_id, originator_version, topic, state)
            SELECT r.stream, r.version, r.topic, substring(blob FROM r.at FOR r.length)
            FROM json_to_recordset(events) AS r (
                stream text, version bigint, topic text, at int, length int);
    END IF;
END $$;

-- The segments that overlap ranges of lanes, by lane and place, each once, and the bytes that they
-- name of the body of their event. A range must end where the index knows: at the segment of its last
-- item. The body begins after the first line, which is short enough to be looked for at the beginning.
CREATE FUNCTION {schema}.pool_slices_1(
    pool text, stream text, lanes bigint[], afters bigint[], uptos bigint[]
) RETURNS TABLE (
    lane bigint, upto bigint, n bigint, version bigint, at bigint, len bigint, at_us bigint,
    seq bigint, lines bytea
) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH found AS MATERIALIZED (
        SELECT DISTINCT ON (s.lane, s.upto) s.*
        FROM unnest(lanes, afters, uptos) AS r (lane, after, upto), LATERAL (
            SELECT c.* FROM {schema}.pool_segments c
            WHERE c.pool = pool_slices_1.pool AND c.lane = r.lane AND c.upto > r.after
            AND c.upto <= coalesce((
                SELECT f.upto FROM {schema}.pool_segments f
                WHERE f.pool = pool_slices_1.pool AND f.lane = r.lane AND f.upto >= r.upto
                ORDER BY f.upto LIMIT 1), r.upto) OFFSET 0) s
        ORDER BY s.lane, s.upto
    )
    SELECT s.lane, s.upto, s.n, s.version, s.at, s.len, s.at_us, s.seq, substring(
        e.state FROM (s.at + 1 + coalesce(
            nullif(position('\x0a'::bytea IN substring(e.state FROM 1 FOR 1990)), 0),
            position('\x0a'::bytea IN e.state)))::int FOR s.len::int)
    FROM found s, LATERAL (
        SELECT v.state FROM {schema}.stored_events v
        WHERE v.originator_id = pool_slices_1.stream AND v.originator_version = s.version
        OFFSET 0) e
    ORDER BY s.lane, s.upto;
END $$;
