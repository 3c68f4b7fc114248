"""Pools in SQLite: a call is five calls of SQLite's, whatever it writes (see `connections`).

One query looks, and answers one row; one insert into a view with a trigger writes everything. The
plan is made between them under the file's write lock.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import chain

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import (
    ExceptionRow,
    Plan,
    PoolFilter,
    PoolLook,
    PoolRows,
    PoolSeen,
    PoolWrites,
    Positioned,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog_adapters.sql.blob import Blob
from wakelog_adapters.sql.pool_tables import Asker, all_rows, log_page
from wakelog_adapters.sql.pools import (
    BLOCKED,
    EXCEPTION,
    EXCEPTIONS,
    ID,
    MOST_BEHIND,
    MOST_SKIPS,
    SEGMENT,
    TAKEN,
    TRAIL,
    findable,
    known,
    overlapping,
    seen_of,
)
from wakelog_adapters.sql.rows import readable
from wakelog_adapters.sqlite.append import dumps
from wakelog_adapters.sqlite.errors import REFUSALS, translated
from wakelog_adapters.sqlite.json_rows import blob_at, fields, json_of, rows_of
from wakelog_adapters.sqlite.parameters import executed
from wakelog_adapters.sqlite.reads import SQLiteReads
from wakelog_projections.inline.append_rows import outbox_row

__all__ = ["PoolStatement", "SQLitePools"]


class PoolStatement:
    """Looks, plans and writes, on the connection that writes."""

    def __init__(self, connection: sqlite3.Connection, path: str, prefix: str) -> None:
        self._connection = connection
        self._path = path
        for template in (_VIEW, _TRIGGER):
            connection.execute(template.replace("{prefix}", prefix))
        self._look = _LOOK.replace("{prefix}", prefix)
        self._insert = f"INSERT INTO {prefix}pool_write VALUES ({', '.join('?' * len(_COLUMNS))})"

    def call(self, look: PoolLook, plan: Plan) -> PoolWrites:
        """To be called in a write transaction; return what was written. Raises what `plan` raises,
        and `StoreUnavailableError`: then the transaction is to be undone."""
        seen = self._seen(look)
        writes = plan(seen)
        if not writes.is_empty:
            self._write(look, seen.number, writes)
        return writes

    @readable
    def _seen(self, look: PoolLook) -> PoolSeen:
        with _document_of(look.pool), translated(self._path):
            row = executed(self._connection, self._look, *look_params(look)).fetchone()
        return seen_of(*row)

    def _write(self, look: PoolLook, number: int, writes: PoolWrites) -> None:
        try:
            params = _packed(look, number, writes)
            self._connection.execute(self._insert, params)
        except REFUSALS as error:
            message = f"{self._path}: a call of {look.pool}: {error}"
            raise StoreUnavailableError("refused", message) from error
        except sqlite3.Error as error:
            with translated(self._path):
                raise error


@contextmanager
def _document_of(pool: str) -> Generator[None]:
    """Say whose document it is that SQLite cannot read."""
    try:
        yield
    except StoreUnavailableError as error:
        if error.reason != "damaged":
            raise
        detail = f"the document of a pool, {pool}: {error.detail}"
        raise StoreUnavailableError("damaged", detail) from error


def look_params(look: PoolLook) -> Sequence[object]:
    """The parameters of a look."""
    ids, keys = dumps(findable(look.ids)), dumps(known(look))
    behind = dumps(findable(look.behind))
    looked = look.pool, look.now_us, look.due_limit, ids, keys, look.leases, behind, look.firsts
    return *looked, dumps(look.inbox)


def _packed(look: PoolLook, number: int, writes: PoolWrites) -> Sequence[str | bytes | int | None]:
    """A value for each column of the view."""
    blob, now_us, leases = Blob(), look.now_us, writes.leases
    return (
        look.pool,
        json_of([(e.stream, e.version, e.topic, *blob.put(e.state)) for e in writes.events]),
        json_of(writes.segments),
        json_of(writes.taken),
        json_of(writes.ids),
        json_of(writes.gone),
        json_of(writes.put),
        json_of(writes.skips),
        json_of(writes.trail),
        json_of(writes.dropped),
        json_of(writes.inbox),
        json_of([(stream, owner, now_us + us, token) for stream, owner, token, us in leases]),
        json_of([outbox_row(sender, each, now_us) for sender, each in writes.sent]),
        number,
        writes.state,
        blob.joined(),
    )


class SQLitePools(SQLiteReads):
    """The reading half of the pools. Raises `StoreUnavailableError`."""

    @readable
    def pool_jobs(self) -> Sequence[str]:
        jobs: list[str] = json.loads(self._row(self._at(_JOBS))[0])
        return jobs

    @readable
    def pool_look(self, look: PoolLook) -> PoolSeen:
        with _document_of(look.pool):
            row = self._row(self._at(_LOOK), *look_params(look))
        return seen_of(*row)

    @readable
    def pool_slices(
        self, pool: str, ranges: Sequence[tuple[int, int, int]]
    ) -> Sequence[tuple[SegmentRow, bytes]]:
        params = pool, f"{pool}:shared", dumps(overlapping(ranges))
        rows = json.loads(self._row(self._at(_SLICES), *params)[0])
        return [(SegmentRow(*row), bytes.fromhex(lines)) for lines, *row in rows]

    @readable
    def pool_taken(self, pool: str, lane: int, off: int) -> TakenRow | None:
        row = self._row(self._at(_TAKEN), pool, lane, off)
        return None if row is None else TakenRow(*row)

    @readable
    def pool_trail(self, pool: str, lane: int, off: int) -> Sequence[TrailRow]:
        return TRAIL.decode(self._row(self._at(_TRAIL), pool, lane, off)[0])

    @readable
    def pool_exceptions(self, pool: str, filter: PoolFilter) -> Sequence[ExceptionRow]:
        whys, key = findable(filter.why), filter.key
        if (filter.why and not whys) or (key is not None and not findable([key])):
            return []
        params = pool, *filter.after, filter.limit
        if key is not None:
            return EXCEPTIONS.decode(self._row(self._at(_OF_KEY), *params, key, dumps(whys))[0])
        if not whys:
            return EXCEPTIONS.decode(self._row(self._at(_ALL), *params)[0])
        pages = [self._row(self._at(_OF_WHY), *params, why)[0] for why in whys]
        rows = chain.from_iterable(map(EXCEPTIONS.decode, pages))
        return sorted(rows, key=lambda row: (row.lane, row.off))[: filter.limit]

    @readable
    def pool_blocked(self, pool: str, keys: Sequence[str]) -> Sequence[tuple[str, int]]:
        return BLOCKED.decode(self._row(self._at(_BLOCKED), pool, dumps(findable(keys)))[0])

    @readable
    def pool_log(self, pool: str, after: int, limit: int) -> Sequence[Positioned]:
        with self.readers.lend() as connection, translated(self.location.path):
            return log_page(self.asker(connection), pool, after, limit)

    def pool_rows(self, pool: str) -> PoolRows:
        with self.readers.lend() as connection, translated(self.location.path):
            connection.execute("BEGIN")
            try:
                return all_rows(self.asker(connection), pool)
            finally:
                connection.execute("ROLLBACK")

    def asker(self, connection: sqlite3.Connection) -> Asker:
        """For plain statements on a connection."""

        def rows(sql: str, params: Sequence[object]) -> Sequence[Sequence[object]]:
            return connection.execute(sql, params).fetchall()

        return Asker(rows, connection.executemany, self.location.prefix, "?", "rowid")

    def _at(self, template: str) -> str:
        return template.replace("{prefix}", self.location.prefix)


# -- queries. Parameters have numbers; a list is JSON, and `LIMIT -1` as in `json_rows`. Where
# -- SQLite would rather walk the whole pool it is told the index.


def _list(columns: str, rows: str) -> str:
    return f"(SELECT json_group_array(json_array({columns})) FROM {rows})"


_LANES = """(SELECT value ->> 0 AS lane, value ->> 1 AS taken, value ->> 2 AS skips
        FROM newest n, json_each(n.parts, '$[0]') LIMIT -1) l"""
_GROUPS = """(SELECT value ->> 0 AS slot, value ->> 1 AS priority, value ->> 2 AS floor_us
        FROM newest n, json_each(n.parts, '$[1]') LIMIT -1) g"""
_LOOKED_FOR = """(SELECT value ->> 0 AS lane, value ->> 1 AS taken
        FROM newest n, json_each(n.parts, '$[0]') WHERE ?8 <> 'none'
        UNION ALL SELECT value ->> 0, value ->> 1
        FROM newest n, json_each(CAST(n.state AS TEXT), '$.fair') WHERE ?8 = 'all' LIMIT -1) l"""
_FIRSTS = f"""{_LOOKED_FOR} CROSS JOIN {{prefix}}pool_segments s ON s.pool = ?1 AND s.lane = l.lane
        AND s.upto = (SELECT min(f.upto) FROM {{prefix}}pool_segments f
            WHERE f.pool = ?1 AND f.lane = l.lane AND f.upto > l.taken)"""
_DUE = """(SELECT * FROM {prefix}pool_exceptions
            WHERE pool = ?1 AND slot = g.slot AND priority = g.priority
            AND due_us >= g.floor_us
            ORDER BY due_us, lane, off LIMIT ?3) x"""
_SKIPPED = f"""(SELECT lane, off FROM {{prefix}}pool_skips
            WHERE pool = ?1 AND lane = l.lane AND off > l.taken ORDER BY off LIMIT {MOST_SKIPS})"""
_SKIPPED_KEYS = """json_each(?5) j CROSS JOIN {prefix}pool_skips k
        ON k.pool = ?1 AND k.lane = j.value ->> 0 AND k.off = j.value ->> 1"""
_BEHIND = f"""(SELECT * FROM {{prefix}}pool_exceptions INDEXED BY {{prefix}}pool_exceptions_key
            WHERE pool = ?1 AND key = j.value AND why = 'behind'
            ORDER BY seq LIMIT {MOST_BEHIND}) x"""
_IDS = "json_each(?4) j CROSS JOIN {prefix}pool_ids i ON i.pool = ?1 AND i.id = j.value"
_KEYS = """json_each(?5) j CROSS JOIN {prefix}pool_exceptions x
        ON x.pool = ?1 AND x.lane = j.value ->> 0 AND x.off = j.value ->> 1"""

_LOOK = f"""WITH newest AS MATERIALIZED (
        SELECT n, state, json_extract(CAST(state AS TEXT), '$.lanes', '$.groups') AS parts
        FROM {{prefix}}pool_states WHERE pool = ?1 ORDER BY n DESC LIMIT 1)
    SELECT ifnull((SELECT n FROM newest), 0), (SELECT state FROM newest), json_object(
        'paused', EXISTS (SELECT 1 FROM {{prefix}}job_pauses WHERE job = ?1),
        'firsts', {_list(SEGMENT, _FIRSTS)},
        'due', (SELECT json_group_array(json({_list(EXCEPTION, _DUE)})) FROM {_GROUPS}
            WHERE ?3 > 0),
        'ids', {_list(ID, _IDS)},
        'exceptions', {_list(EXCEPTION, _KEYS)},
        'behind', (SELECT json_group_array(json({_list(EXCEPTION, _BEHIND)}))
            FROM json_each(?7) j),
        'leases', {
    _list("stream, owner, token, until_us <= ?2", "{prefix}leases WHERE ?6 AND job = ?1")
},
        'skips', (SELECT json_group_array(json({_list("lane, off", _SKIPPED)}))
            FROM {_LANES} WHERE l.skips > 0),
        'inbox', (SELECT json_group_array(n) FROM {{prefix}}inbox
            WHERE n IN (SELECT value FROM json_each(?9))),
        'skipped', {_list("k.lane, k.off", _SKIPPED_KEYS)})"""
"""(pool, now, how many of each group, ids, [[lane, place], …], whether leases are wanted, keys, of
which lanes the first segments, rows of the inbox) ->
the number of the newest document, the document, and the fields of a look as JSON"""

_SLICES = f"""SELECT json_group_array(json_array(hex(
        substr(e.state, instr(e.state, x'0a') + 1 + s.at, s.len)), {SEGMENT}))
    FROM (SELECT DISTINCT s.* FROM (SELECT value ->> 0 AS lane, value ->> 1 AS after,
            value ->> 2 AS upto FROM json_each(?3) LIMIT -1) r
        CROSS JOIN {{prefix}}pool_segments s ON s.pool = ?1 AND s.lane = r.lane
            AND s.upto > r.after AND s.upto <= ifnull((
                SELECT min(f.upto) FROM {{prefix}}pool_segments f
                WHERE f.pool = ?1 AND f.lane = r.lane AND f.upto >= r.upto), r.upto)
        ORDER BY s.lane, s.upto) s
    CROSS JOIN {{prefix}}stored_events e
        ON e.originator_id = ?2 AND e.originator_version = s.version"""
"""(pool, stream, [[lane, after, upto], …]) -> [[lines in hex, the fields of `SegmentRow`], …]"""
_JOBS = """SELECT json_group_array(pool)
    FROM (SELECT DISTINCT pool FROM {prefix}pool_states ORDER BY pool)"""
"""() -> the jobs"""
_TAKEN = f"""SELECT {TAKEN} FROM {{prefix}}pool_taken t
    WHERE t.pool = ? AND t.lane = ? AND t.upto >= ? ORDER BY t.upto LIMIT 1"""
"""(pool, lane, place) -> the fields of `TakenRow`"""
_PAGE = """(SELECT * FROM {prefix}pool_exceptions %s
    WHERE pool = ?1 AND (lane, off) > (?2, ?3) %s ORDER BY lane, off LIMIT ?4) x"""
_HAS_KEY = "AND key = ?5 AND (?6 = '[]' OR why IN (SELECT value FROM json_each(?6)))"
_ALL, _OF_WHY, _OF_KEY = (
    f"SELECT {rows}"
    for rows in (
        _list(EXCEPTION, _PAGE % ("", "")),
        _list(EXCEPTION, _PAGE % ("", "AND why = ?5")),
        _list(
            EXCEPTION,
            _PAGE % ("INDEXED BY {prefix}pool_exceptions_key", _HAS_KEY),
        ),
    )
)
"""(pool, lane, place, limit[, why or key[, whys]]) -> rows of `ExceptionRow`"""
_TRAIL = """SELECT json_group_array(json_array(lane, off, stream, version)) FROM (
    SELECT t.* FROM {prefix}pool_trail t LEFT JOIN {prefix}stored_events e
        ON e.originator_id = t.stream AND e.originator_version = t.version
    WHERE t.pool = ? AND t.lane = ? AND t.off = ? ORDER BY e.rowid, t.stream, t.version)"""
"""(pool, lane, place) -> rows of `TrailRow`"""
_BLOCKED = """SELECT json_group_array(json_array(key, seq)) FROM (
    SELECT j.value AS key, (SELECT x.seq FROM {prefix}pool_exceptions x
        WHERE x.pool = ?1 AND x.key = j.value AND x.why <> 'dead'
        ORDER BY x.seq LIMIT 1) AS seq
    FROM json_each(?2) j) WHERE seq IS NOT NULL"""
"""(pool, keys) -> [[key, number], …]"""

# -- the view and its trigger, as those of an append

_COLUMNS = (
    *("pool", "events", "segments", "taken", "ids", "gone", "put"),
    *("skips", "trail", "dropped", "inbox", "leases", "sent", "n", "state", "blob"),
)
_VIEW = f"""CREATE TEMP VIEW {{prefix}}pool_write ({", ".join(_COLUMNS)})
    AS SELECT {", ".join(["NULL"] * len(_COLUMNS))}"""
_TRIGGER = f"""CREATE TEMP TRIGGER {{prefix}}pool_write_rows
    INSTEAD OF INSERT ON {{prefix}}pool_write BEGIN
        INSERT INTO {{prefix}}stored_events
            SELECT {fields(0, 3)}, {blob_at(3)} FROM {rows_of("events")};
        INSERT INTO {{prefix}}pool_segments
            SELECT NEW.pool, {fields(0, 8)} FROM {rows_of("segments")};
        INSERT INTO {{prefix}}pool_taken
            SELECT NEW.pool, {fields(0, 4)} FROM {rows_of("taken")};
        INSERT INTO {{prefix}}pool_ids (pool, id, lane, off, fingerprint, at_us, position)
            SELECT NEW.pool, {fields(0, 6)} FROM {rows_of("ids")};
        DELETE FROM {{prefix}}pool_exceptions WHERE pool = NEW.pool
            AND (lane, off) IN (SELECT {fields(0, 2)} FROM {rows_of("gone")});
        INSERT OR REPLACE INTO {{prefix}}pool_exceptions
            SELECT NEW.pool, {fields(0, 9)} FROM {rows_of("put")};
        INSERT OR IGNORE INTO {{prefix}}pool_skips
            SELECT NEW.pool, {fields(0, 2)} FROM {rows_of("skips")};
        INSERT OR IGNORE INTO {{prefix}}pool_trail
            SELECT NEW.pool, {fields(0, 4)} FROM {rows_of("trail")};
        DELETE FROM {{prefix}}leases
            WHERE stream IN (SELECT j.value FROM json_each(NEW.dropped) j);
        DELETE FROM {{prefix}}inbox WHERE n IN (SELECT j.value FROM json_each(NEW.inbox) j);
        INSERT OR REPLACE INTO {{prefix}}leases (stream, job, owner, until_us, token, run)
            SELECT {fields(0, 1)}, NEW.pool, {fields(1, 4)}, 0 FROM {rows_of("leases")};
        INSERT INTO {{prefix}}outbox (sender, target, version, job, sent_us, due_us)
            SELECT {fields(0, 6)} FROM {rows_of("sent")};
        INSERT INTO {{prefix}}pool_states
            SELECT NEW.pool, NEW.n + 1, NEW.state WHERE NEW.state IS NOT NULL;
        DELETE FROM {{prefix}}pool_states
            WHERE NEW.state IS NOT NULL AND pool = NEW.pool AND n = NEW.n - 1;
    END"""
