-- compatible since: 1
-- {prefix} is the prefix of the store's URL, wakelog_ unless given. Times are microseconds since
-- 1970 in UTC. One statement ends where a line ends with a semicolon.

-- The log, as the eventsourcing library makes it: its rowid is the notification id.
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

-- Views: written with the events, and rebuilt from them. A status row stays after a clear.
CREATE TABLE {prefix}status (
    stream TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    status TEXT NOT NULL,
    executing INTEGER NOT NULL,
    due_us INTEGER,
    retry_us INTEGER,
    clear_us INTEGER,
    wake_us INTEGER,
    created_us INTEGER,
    updated_us INTEGER NOT NULL,
    event_count INTEGER NOT NULL,
    run_count INTEGER NOT NULL,
    failure_count INTEGER NOT NULL,
    deferred_count INTEGER NOT NULL,
    reason TEXT,
    last_error TEXT,
    state TEXT
);

CREATE INDEX {prefix}status_executing ON {prefix}status (updated_us) WHERE executing = 1;

CREATE TABLE {prefix}alarms (
    stream TEXT NOT NULL PRIMARY KEY,
    job TEXT NOT NULL,
    due_us INTEGER NOT NULL,
    action TEXT NOT NULL
) WITHOUT ROWID;

-- A limit on the runs of a job holds up those alarms that begin one, and no others.
CREATE INDEX {prefix}alarms_of_runs ON {prefix}alarms (job, due_us)
    WHERE action NOT IN ('clear', 'deferred');

CREATE INDEX {prefix}alarms_of_others ON {prefix}alarms (job, due_us)
    WHERE action IN ('clear', 'deferred');

-- Not views: no rebuild may touch what follows.
CREATE TABLE {prefix}leases (
    stream TEXT NOT NULL PRIMARY KEY,
    job TEXT NOT NULL,
    owner TEXT NOT NULL,
    until_us INTEGER NOT NULL,
    token INTEGER NOT NULL,
    run INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX {prefix}leases_until ON {prefix}leases (job, until_us);

CREATE INDEX {prefix}leases_owner ON {prefix}leases (owner);

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
    until_us INTEGER NOT NULL
) WITHOUT ROWID;
