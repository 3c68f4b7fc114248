-- compatible since: 1
-- The schema of the SQLite store. {prefix} is the prefix of the store's URL, wakelog_ unless given.
-- Times are microseconds since 1970 in UTC. One statement ends where a line ends with a semicolon.
--
-- The log
--   stored_events   the events, as the eventsourcing library stores them
--   snapshots       folded instances: short cuts, never the truth
-- Views, written in the append's own transaction and rebuilt from the log
--   status          one row for each instance, also after a clear
--   alarms          what each instance must be woken for next; no row if nothing is due
-- Tables that no rebuild may touch
--   leases          which worker works on which instance
--   kept_replies    replies to requests with an idempotency key
--   outbox          messages to other jobs that are to be delivered
--   received        the newest message that each target has taken of each sender
--   positions       how far the followers of the log are
--   job_pauses      jobs that are paused as a whole
--   workers         workers, and the jobs they can run
--   inbox           events that callers have sent in transactions of their own, until they are taken up
--   pool_states     of each pool the document that its calls are planned by
--   pool_segments   where in the log the items of each lane are
--   pool_taken      which take had which items of a lane
--   pool_exceptions items that do not simply wait in their lane
--   pool_skips      places of a lane that are to be skipped
--   pool_trail      the other events about an item
--   pool_ids        the ids that callers gave to items
--   migrations      which of these files were applied; made before the first of them is
-- Functions: none. An append is a view with a trigger on it, of each connection: sqlite/append.py.

-- The log. Its rowid is the notification id.
CREATE TABLE {prefix}stored_events (
    originator_id TEXT,
    originator_version INTEGER,
    topic TEXT,
    state BLOB,
    PRIMARY KEY (originator_id, originator_version)
);

CREATE TABLE {prefix}snapshots (
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (stream, version)
);

-- The columns are the fields of `StatusRow`, in its order; then the head of the stream, which a claim
-- returns so that nothing has to be read again: only if an alarm is due soon, and it is short.
CREATE TABLE {prefix}status (
    stream TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    status TEXT NOT NULL,
    executing INTEGER NOT NULL,
    due_us INTEGER,
    retry_us INTEGER,
    clear_us INTEGER,
    wake_us INTEGER,
    created_us INTEGER,
    updated_us INTEGER NOT NULL,
    last_run_us INTEGER,
    event_count INTEGER NOT NULL,
    run_count INTEGER NOT NULL,
    failure_count INTEGER NOT NULL,
    deferred_count INTEGER NOT NULL,
    reason TEXT,
    unfinished_count INTEGER NOT NULL,
    window_count INTEGER NOT NULL,
    window_opened_us INTEGER,
    flush_due_us INTEGER,
    dead_count INTEGER NOT NULL,
    code_error TEXT,
    error_type TEXT,
    last_error TEXT,
    state TEXT,
    head TEXT
);

CREATE INDEX {prefix}status_executing ON {prefix}status (updated_us) WHERE executing = 1;

CREATE INDEX {prefix}status_dead ON {prefix}status (stream) WHERE dead_count > 0;

CREATE INDEX {prefix}status_unread ON {prefix}status (stream) WHERE code_error IS NOT NULL;

CREATE TABLE {prefix}alarms (
    stream TEXT NOT NULL PRIMARY KEY,
    job TEXT NOT NULL,
    due_us INTEGER NOT NULL,
    action TEXT NOT NULL
) WITHOUT ROWID;

-- A limit on the runs of a job applies to the alarms that start a run, and to no others.
CREATE INDEX {prefix}alarms_of_runs ON {prefix}alarms (job, due_us)
    WHERE action NOT IN ('clear', 'deferred');

CREATE INDEX {prefix}alarms_of_others ON {prefix}alarms (job, due_us)
    WHERE action IN ('clear', 'deferred');

-- No index by owner: a heartbeat walks the few rows that there are, and each run writes them thrice.
CREATE TABLE {prefix}leases (
    stream TEXT NOT NULL PRIMARY KEY,
    job TEXT NOT NULL,
    owner TEXT NOT NULL,
    until_us INTEGER NOT NULL,
    token INTEGER NOT NULL,
    run INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX {prefix}leases_until ON {prefix}leases (job, until_us);

CREATE TABLE {prefix}kept_replies (
    stream TEXT NOT NULL,
    key TEXT NOT NULL,
    action TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body TEXT NOT NULL,
    expires_us INTEGER,
    PRIMARY KEY (stream, key)
);

CREATE INDEX {prefix}kept_replies_expire ON {prefix}kept_replies (expires_us) WHERE expires_us IS NOT NULL;

-- Messages to other jobs that are still to be delivered, and of each pair which was taken last.
CREATE TABLE {prefix}outbox (
    sender TEXT NOT NULL,
    target TEXT NOT NULL,
    version INTEGER NOT NULL,
    job TEXT NOT NULL,
    sent_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    held TEXT,
    PRIMARY KEY (sender, target, version)
) WITHOUT ROWID;

CREATE INDEX {prefix}outbox_due ON {prefix}outbox (job, due_us);

CREATE TABLE {prefix}received (
    target TEXT NOT NULL,
    sender TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (target, sender)
) WITHOUT ROWID;

CREATE TABLE {prefix}positions (
    name TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE {prefix}job_pauses (
    job TEXT NOT NULL PRIMARY KEY,
    reason TEXT,
    actor TEXT,
    since_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE {prefix}workers (
    worker TEXT NOT NULL PRIMARY KEY,
    jobs TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    seen_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    rules TEXT NOT NULL
) WITHOUT ROWID;

-- Only ever read by presence: rows commit in any order. A number is never given again, since a unit
-- that was made of a row deletes it by its number.
CREATE TABLE {prefix}inbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    job TEXT NOT NULL,
    stream TEXT NOT NULL,
    body TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    retry_us INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    refused INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX {prefix}inbox_held ON {prefix}inbox (stream, n) WHERE retry_us > 0;

-- Pools: see `wakelog.ports.pools`. What is in these tables is in the log too. A pool's document has
-- a new row for each call that changes it; the newest has the highest number.
CREATE TABLE {prefix}pool_states (
    pool TEXT NOT NULL,
    n INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (pool, n)
);

-- Rows of this one, of the takes, the skips, the trail and the ids are only ever added.
CREATE TABLE {prefix}pool_segments (
    pool TEXT NOT NULL,
    lane INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    n INTEGER NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    len INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (pool, lane, upto)
) WITHOUT ROWID;

CREATE TABLE {prefix}pool_taken (
    pool TEXT NOT NULL,
    lane INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (pool, lane, upto)
) WITHOUT ROWID;

CREATE TABLE {prefix}pool_exceptions (
    pool TEXT NOT NULL,
    lane INTEGER NOT NULL,
    off INTEGER NOT NULL,
    why TEXT NOT NULL,
    slot INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due_us INTEGER,
    seq INTEGER NOT NULL,
    key TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (pool, lane, off)
) WITHOUT ROWID;

CREATE INDEX {prefix}pool_exceptions_due
    ON {prefix}pool_exceptions (pool, slot, priority, due_us, lane, off) WHERE due_us IS NOT NULL;

CREATE INDEX {prefix}pool_exceptions_key
    ON {prefix}pool_exceptions (pool, key, seq) WHERE key IS NOT NULL;

CREATE INDEX {prefix}pool_exceptions_why ON {prefix}pool_exceptions (pool, why, lane, off);

CREATE TABLE {prefix}pool_skips (
    pool TEXT NOT NULL,
    lane INTEGER NOT NULL,
    off INTEGER NOT NULL,
    PRIMARY KEY (pool, lane, off)
) WITHOUT ROWID;

CREATE TABLE {prefix}pool_trail (
    pool TEXT NOT NULL,
    lane INTEGER NOT NULL,
    off INTEGER NOT NULL,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (pool, lane, off, stream, version)
) WITHOUT ROWID;

CREATE TABLE {prefix}pool_ids (
    pool TEXT NOT NULL,
    id TEXT NOT NULL,
    lane INTEGER NOT NULL,
    off INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (pool, id)
) WITHOUT ROWID;
