"""The store in a PostgreSQL database, which processes on several machines can share.

All that depends on PostgreSQL is here; the SQL itself is in `store.queries`, for all engines.

**One writer at a time**, as in SQLite: a writer begins by taking an advisory lock, which ends with
its transaction. So what the steps read is what they write upon, and no rule has to be proved again
for writers that run beside each other. Signatures, digests and deltas are checked outside of it.

**Commits are numbered** by a sequence while the lock is held, and each that changed something is
announced by NOTIFY with its number, so that waiters learn of it without asking the server.

Statements are prepared once for each connection and go to libpq as they are: on a loopback
connection psycopg's own cursors take longer than PostgreSQL.

**Nothing is waited for that is not looked at**: statements are sent in libpq's pipeline mode, and
a cursor gets its result when its rows or their number are asked for, together with all that was
sent before. So a change costs no round trip of its own. What fails on the way is raised there, or
by `settle`, which ends each savepoint and transaction.
"""

from __future__ import annotations

import contextlib
import functools
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import NumericBinaryLoader

from pleb_coordinator.store.engine import (
    PROBES,
    StoreAwayError,
    check_revision,
    storage_full,
    store_is_away,
    store_is_busy,
)
from pleb_coordinator.store.queries.assignments import (
    CANDIDATES_FOR_HOST,
    CANDIDATES_FOR_TRUSTED,
)
from pleb_coordinator.store.queries.beginnings import FIRST_UNSENT
from pleb_coordinator.store.recall import (
    Recalled,
    changes_nothing,
    is_query,
    table_written,
    tables_read,
)
from pleb_shared.errors import InputError, Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["REWORDED", "PostgresConnection", "connect", "is_used_by_others", "without_password"]

_LOCK: Final = 0x706C6562  # "pleb"; advisory locks are of one database
_CHANNEL: Final = "pleb_commits"
_CONNECT_SECONDS: Final = 10
_ABANDONED_SECONDS: Final = 60
"""How long a writer may do nothing in a transaction before the server ends it: a process that is
stopped, or whose machine has gone, must not keep the lock."""
_OPTIONS: Final = {
    "application_name": "pleb-coordinator",
    "client_encoding": "utf8",
    "connect_timeout": str(_CONNECT_SECONDS),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""What a connection has unless its address says otherwise: a server whose machine has gone is
noticed within half a minute."""
_SESSION: Final = """
SET lock_timeout = {busy_milliseconds};
SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
SET synchronous_commit = on;
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET jit = off;
SET max_parallel_workers_per_gather = 0;
LISTEN {channel};
SELECT last_value FROM commit_numbers
"""
"""Every query that runs often has an index (a test asks SQLite's planner), so plans need not wait
for statistics: a table that has just been filled has none."""
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE: Final = b"BEGIN; SET LOCAL idle_in_transaction_session_timeout = %d; " % (
    _ABANDONED_SECONDS * 1000
)
_BEGIN: Final = b"SELECT pg_advisory_xact_lock(%d); SELECT last_value FROM commit_numbers" % _LOCK
_NOT_DURABLE: Final = b"SET LOCAL synchronous_commit = off; "
_ANNOUNCE: Final = f"SELECT pg_notify('{_CHANNEL}', nextval('commit_numbers')::text); ".encode()
_NAMED: Final = re.compile(r"(?<![:\w]):([a-z]\w*)")
_LIMIT: Final = re.compile(r"\bLIMIT :(\w+)\b(?! OFFSET)")
REWORDED: Final = {
    query: query.replace(
        "a.trusted_only = :trusted_only",
        "a.trusted_only BETWEEN :trusted_only AND :trusted_only",
    ).replace("ORDER BY a.id", "ORDER BY a.trusted_only, a.id")
    for query in (
        CANDIDATES_FOR_HOST,
        CANDIDATES_FOR_TRUSTED,
        FIRST_UNSENT,
    )
}
"""Queries that say the same in words that leave the planner no choice. Whatever its statistics were
when it looked, it must begin at the first unsent assignment: by the primary key it would pass all
finished ones, for each request."""

_FULL: Final = {"53100"}
_BUSY: Final = {"55P03", "40001", "40P01", "53000", "53200", "53300", "57014"}
_NUL: Final = "22021"
_READ_ONLY: Final = "25006"
"""This server is a replica now, or again: another one has taken over."""


class _Number(NumericBinaryLoader):
    """A sum of whole numbers is `numeric`."""

    def load(self, data: Any) -> Any:
        value = super().load(data)
        whole = int(value)
        return whole if whole == value else float(value)


class _Adapting:
    """What `Transformer` needs to know."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.adapters.register_loader("numeric", _Number)


_ADAPTING: Final = _Adapting()


class _Cursor:
    """Rows of a result, as `store.engine.Cursor`; it arrives when it is asked for."""

    __slots__ = ("_connection", "_error", "_rowcount", "_rows", "writes")

    def __init__(self, connection: PostgresConnection, *, writes: bool) -> None:
        self._connection = connection
        self._rows: Iterator[tuple[Any, ...]] | None = None
        self._rowcount = 0
        self._error: Exception | None = None
        self.writes = writes

    @property
    def rowcount(self) -> int:
        self._arrived()
        return self._rowcount

    def fetchone(self) -> Any:
        return next(self._arrived(), None)

    def fetchall(self) -> list[Any]:
        return list(self._arrived())

    def __iter__(self) -> Iterator[Any]:
        return self._arrived()

    def arrive(self, rows: Iterator[tuple[Any, ...]], rowcount: int) -> None:
        """Take the result."""
        self._rows, self._rowcount = rows, rowcount

    def fail(self, error: Exception) -> None:
        """Take the reason why there is none."""
        self._error = error

    def _arrived(self) -> Iterator[tuple[Any, ...]]:
        if self._rows is None and self._error is None:
            self._connection.settle()
        if self._rows is None:
            raise self._error or store_is_away()
        return self._rows


class PostgresConnection:
    """One connection, as `store.engine.Connection`. It is made anew when it was cut.

    Raises:
        InputError: the database cannot be reached, or its schema is not the one that this code
            needs.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        self._url = url
        self._shown = without_password(url)
        self._conninfo = _conninfo(url)
        self._session = _SESSION.format(
            busy_milliseconds=round(busy_seconds * 1000),
            channel=_CHANNEL,
        ).encode()
        self._sent: list[_Cursor] = []
        """Statements whose results have not been asked for."""
        self._reads = False
        """Whether a transaction that only reads is open."""
        self._ended = False
        """Whether the answer to the end of one has still to be read."""
        self._expected: dict[tuple[str, frozenset[tuple[str, object]]], _Cursor] = {}
        """Queries of this transaction that were sent ahead, by text and parameters."""
        self._recalled = Recalled()
        self._changes = self._changes_before = 0
        self._prepared: dict[str, tuple[bytes, tuple[str, ...], bool]] = {}
        self._transformer = Transformer(_ADAPTING)
        self._wrote = False
        self._seen = 0
        """The number of the last commit that is known, and was another's."""
        self._cuts = 0
        """How often the connection was lost: other processes may have committed meanwhile."""
        self._cut = True
        self._own = -1
        """The number of this connection's own last commit."""
        self._connect()
        try:
            self._check_schema()
        except BaseException:
            self.close()
            raise

    def expect(self, sql: str, /, **parameters: object) -> None:
        """Send a query that is likely to be run soon, as `Connection.expect`."""
        key = sql, frozenset(parameters.items())
        if key not in self._expected and self._recalled.find(sql, parameters) is None:
            self._expected[key] = self._send(sql, parameters)

    def recall(self, sql: str, /, **parameters: object) -> list[Any]:
        """Return a query's rows, as `Connection.recall`."""
        found = self._recalled.find(sql, parameters)
        if found is None:
            found = self.execute(sql, **parameters).fetchall()
            if not self._reads:  # only who writes learns of others' commits
                self._recalled.keep(sql, parameters, found)
        return found

    @property
    def changes(self) -> int:
        """Return how many statements may have changed rows, as `Connection.changes`."""
        return self._changes

    @property
    def has_changed(self) -> bool:
        """Whether this transaction may have changed a row."""
        return self._changes != self._changes_before

    def execute(self, sql: str, /, **parameters: object) -> _Cursor:
        """Run a statement, as `Connection.execute`."""
        self._recalled.forget(sql)
        if self._expected:
            if is_query(sql):
                expected = self._expected.pop((sql, frozenset(parameters.items())), None)
                if expected is not None:
                    return expected
            elif not changes_nothing(sql):
                self._expect_no_more(sql)
        return self._send(sql, parameters)

    def _expect_no_more(self, sql: str) -> None:
        """Forget what was sent ahead and would find something else after this statement."""
        changed = table_written(sql)
        for key in [key for key in self._expected if not changed or changed in tables_read(key[0])]:
            del self._expected[key]

    def _send(self, sql: str, parameters: Mapping[str, object]) -> _Cursor:
        sql = REWORDED.get(sql, sql)
        if (limit := _limits(sql)) is not None:  # a plan is for as many rows as are wanted
            sql = sql.replace(f"LIMIT :{limit}", f"LIMIT {parameters[limit]:d}")
        if self._cut:
            raise store_is_away()  # its transaction has gone with the connection
        if sql.startswith("ROLLBACK TO"):
            self._abandon()  # after a failed statement, others are skipped until the next answer
        name, names, writes = self._prepared.get(sql) or self._prepare(sql)
        values, formats = _bound(parameters, names)
        if len(self._sent) >= _BATCH:
            self.settle()
        try:
            if not self._sent:
                self._pg.enter_pipeline_mode()
            self._pg.send_query_prepared(name, values, formats, pq.Format.BINARY)
        except psycopg.OperationalError as error:
            self._lose_all()
            raise store_is_away() from error
        self._changes += writes
        self._sent.append(_Cursor(self, writes=writes))
        return self._sent[-1]

    def settle(self) -> None:
        """Wait for all that was sent, as `Connection.settle`."""
        if not self._sent:
            return
        sent, self._sent = self._sent, []
        try:
            results = self._received(len(sent))
        except psycopg.OperationalError as error:
            self._lost()
            for cursor in sent:
                cursor.fail(store_is_away())
            raise store_is_away() from error
        failed: Exception | None = None
        transformer = self._transformer
        for cursor, result in zip(sent, results, strict=True):
            if failed is None:
                try:
                    self._run(result)
                except (Refusal, psycopg.Error) as error:
                    failed = error
            if failed is not None:
                cursor.fail(failed)
                continue
            changed = result.command_tuples or 0
            if cursor.writes and changed:
                self._wrote = True
            transformer.set_pgresult(result, format=pq.Format.BINARY)
            cursor.arrive(iter(transformer.load_rows(0, result.ntuples, tuple)), changed)
        if failed is not None:
            raise failed

    def _received(self, count: int | None) -> list[Any]:
        """Return the results of the `count` statements that were sent, and leave pipeline mode.

        None: of however many.

        Raises:
            psycopg.OperationalError: the connection was lost.
        """
        pg, results = self._pg, []
        if count is not None:
            pg.pipeline_sync()
        while (result := pg.get_result()) is None or result.status != _SYNC:
            if result is not None:
                results.append(result)
            elif pg.status != pq.ConnStatus.OK:
                break
        if pg.status != pq.ConnStatus.OK or count not in {None, len(results)}:
            raise psycopg.OperationalError("the connection was lost")
        pg.exit_pipeline_mode()
        return results

    def _abandon(self) -> None:
        """Wait for all that was sent, whatever became of it."""
        with contextlib.suppress(Refusal, psycopg.Error):
            self.settle()

    def _lose_all(self) -> None:
        self._lost()
        for cursor in self._sent:
            cursor.fail(store_is_away())
        self._sent = []

    def execute_each(self, sql: str, parameters: Iterable[Mapping[str, object]]) -> None:
        """Run a statement for each set of parameters, as `Connection.execute_each`.

        They are sent together: a round of a thousand units must not wait for a thousand answers.
        """
        self._recalled.forget(sql)
        self._expect_no_more(sql)
        self.settle()
        name, names, _ = self._prepared.get(sql) or self._prepare(sql)
        rows = [_bound(row, names) for row in parameters]
        for start in range(0, len(rows), _BATCH):
            self._run_batch(name, rows[start : start + _BATCH])
        self._wrote = self._wrote or bool(rows)
        self._changes += len(rows)

    def begin(self, *, write: bool, durable: bool = True) -> None:
        """Begin a transaction, as `Connection.begin`."""
        self._wrote = False
        self._changes_before = self._changes
        self._expected.clear()
        self._await_end()
        if not write:
            self._begin_read()
            return
        text = _BEGIN_WRITE + (b"" if durable else _NOT_DURABLE) + _BEGIN
        result = self._begin(text)
        number = int(result.get_value(0, 0) or 0)
        if number != self._own:
            self._recalled.forget_all()
            self._seen = max(self._seen, number)
        self._own = number + 1  # what this transaction gets, if it changes anything

    def _begin_read(self) -> None:
        """Begin to read, together with the first query."""
        if not self._cut:
            try:
                # A server that has hung up is noticed before it is asked: first come its last
                # words, then the end of the stream.
                self._pg.consume_input()
                self._pg.consume_input()
            except psycopg.OperationalError:
                self._lost()
        if self._cut:
            self._connect_again()
        self._reads = True
        self.execute(_BEGIN_READ)

    def _await_end(self) -> None:
        """Wait until the end of the last reading has been answered."""
        if not self._ended:
            return
        self._ended = False
        try:
            self._received(None)
        except psycopg.OperationalError:
            self._lost()

    def commit(self) -> None:
        """End the transaction, as `Connection.commit`."""
        self.settle()
        if not self._wrote:
            self._own -= 1
        result = self._ask(self._pg.exec_, (_ANNOUNCE if self._wrote else b"") + b"COMMIT")
        if result.command_status != b"COMMIT":
            message = "A statement of the transaction had failed, so nothing of it was kept."
            raise psycopg.InternalError(message)

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""
        if self._reads:
            self._end_read()
            return
        self._abandon()
        if self._pg.transaction_status in {
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.INERROR,
        }:
            self._recalled.forget_all()
            self._pg.exec_(b"ROLLBACK")  # if it was lost meanwhile, it is undone all the same

    def _end_read(self) -> None:
        """End the reading; the next transaction waits for the answer, by then it is there."""
        self._reads = False
        if self._cut:
            return
        try:
            if not self._sent:
                self._pg.enter_pipeline_mode()
            self._pg.send_query_params(b"ROLLBACK", None)
            self._pg.pipeline_sync()
            self._ended = True
        except psycopg.OperationalError:
            self._lost()
        self._sent = []

    def compact(self) -> None:
        """Let the room of removed rows be used again, and look at what the tables hold."""
        self._ask(self._pg.exec_, b"VACUUM (ANALYZE)")

    def commit_count(self) -> int:
        """Return a number that changes when another connection has committed.

        Nothing is asked of the server: what it has announced lies in the socket's buffer.
        """
        self._await_end()
        if not self._cut:
            try:
                self._pg.consume_input()
                while (notice := self._pg.notifies()) is not None:
                    if notice.be_pid != self._pg.backend_pid:
                        self._seen = max(self._seen, int(notice.extra))
            except psycopg.OperationalError:
                self._lost()
        return self._seen + self._cuts

    def last_number(self, table: str, column: str) -> int:
        """Return a table's last number, as `Connection.last_number`."""
        (name,) = self.execute(f"SELECT pg_get_serial_sequence('{table}', '{column}')").fetchone()
        found = self.execute(
            f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}"  # noqa: S608
        ).fetchone()
        return int(found[0])

    def set_last_number(self, table: str, column: str, number: int) -> None:
        """Set a table's last number, as `Connection.set_last_number`."""
        highest = max(number, self.last_number(table, column))
        if highest:
            self.execute(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {highest})")

    def close(self) -> None:
        """Close the connection."""
        self._pg.finish()

    def _connect(self) -> None:
        """Connect. Raises `InputError`."""
        self._pg = pq.PGconn.connect(self._conninfo)
        self._sent = []
        self._recalled.forget_all()
        self._ended = self._reads = False
        self._prepared = {}
        self._transformer = Transformer(_ADAPTING)
        if self._pg.status != pq.ConnStatus.OK:
            error = self._pg.get_error_message().strip()
            self._pg.finish()
            raise _not_connected(self._shown, error)
        self._pg.notice_handler = None
        result = self._pg.exec_(self._session)
        if result.status != pq.ExecStatus.TUPLES_OK:  # `_check_schema` says what is missing
            return
        self._cut = False
        if self._own < 0:
            self._seen = self._own = int(result.get_value(0, 0) or 0)

    def _check_schema(self) -> None:
        found = self._pg.exec_(b"SELECT version_num FROM alembic_version")
        if found.status != pq.ExecStatus.TUPLES_OK:
            if self._pg.status != pq.ConnStatus.OK:
                raise _not_connected(self._shown, found.get_error_message())
            message = f"There is no store in {self._shown}: run `pleb-coordinator init`."
            raise InputError(message)
        revision = found.get_value(0, 0) if found.ntuples else None
        check_revision(self._shown, None if revision is None else revision.decode())
        for probe in PROBES:
            if (result := self._pg.exec_(probe.encode())).status != pq.ExecStatus.TUPLES_OK:
                reason = result.get_error_message().splitlines()[0]
                message = (
                    f"{self._shown} was made by a development version before the first release, "
                    f"and cannot be brought up to date ({reason}). Give an empty database."
                )
                raise InputError(message)

    def _begin(self, text: bytes) -> Any:
        """Run the first statement of a transaction; if the connection was cut, make a new one."""
        if not self._cut:
            result = self._pg.exec_(text)
            if self._pg.status == pq.ConnStatus.OK:
                return self._begun(result)
            self._lost()
        self._connect_again()
        return self._begun(self._pg.exec_(text))

    def _connect_again(self) -> None:
        try:
            self._connect()
        except InputError as error:
            raise store_is_away() from error

    def _begun(self, result: Any) -> Any:
        try:
            return self._run(result)
        except BaseException:
            self.rollback()
            raise

    def _lost(self) -> None:
        if not self._cut:
            self._cut = True
            self._cuts += 1

    def _prepare(self, sql: str) -> tuple[bytes, tuple[str, ...], bool]:
        """Prepare a statement: parameters by number, of the types that their places ask for."""
        names: list[str] = []

        def number(found: re.Match[str]) -> str:
            if found[1] not in names:
                names.append(found[1])
            return f"${names.index(found[1]) + 1}"

        self.settle()
        text = _NAMED.sub(number, sql.replace("rowid", "ctid"))
        name = f"s{len(self._prepared)}".encode()
        writes = not is_query(text) and not text.startswith(_SAVEPOINTS)
        self._ask(self._pg.prepare, name, text.encode())
        self._prepared[sql] = (name, tuple(names), writes)
        return self._prepared[sql]

    def _run_batch(self, name: bytes, rows: list[tuple[list[Any], list[int]]]) -> None:
        """Run a prepared statement for each row, with one answer to wait for."""
        pg, failed = self._pg, None
        pg.enter_pipeline_mode()
        try:
            for values, formats in rows:
                pg.send_query_prepared(name, values, formats, pq.Format.BINARY)
            pg.pipeline_sync()
            while (result := pg.get_result()) is None or result.status != _SYNC:
                if result is not None and result.status not in _GOOD and failed is None:
                    failed = result
            pg.exit_pipeline_mode()
        except psycopg.OperationalError as error:  # nothing else can go wrong on the way
            self._lost()
            raise store_is_away() from error
        if failed is not None:
            self._run(failed)

    def _ask(self, call: Callable[..., Any], *words: Any) -> Any:
        """Return the good result of a call of libpq, also where that has no connection any more."""
        try:
            result = call(*words)
        except psycopg.OperationalError as error:
            self._lost()
            raise store_is_away() from error
        return self._run(result)

    def _run(self, result: Any) -> Any:
        """Return a result that is good. Raises as `Connection.execute`."""
        if result.status in _GOOD:
            return result
        if self._pg.status != pq.ConnStatus.OK:
            self._lost()
            raise store_is_away()
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if state in _FULL:
            raise storage_full()
        if state in _BUSY:
            raise store_is_busy()
        if state == _READ_ONLY:
            self._pg.finish()  # the next connection may lead to the one that can write
            self._lost()
            raise store_is_away()
        if state == _NUL:
            raise Refusal(RefusalCode.MALFORMED, "A text has a character that cannot be stored.")
        raise psycopg.errors.error_from_result(result)


_BATCH: Final = 256
"""Statements on their way at once: they and their answers must fit into the sockets' buffers."""
_GOOD: Final = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}
_SYNC: Final = pq.ExecStatus.PIPELINE_SYNC
_SAVEPOINTS: Final = ("SAVEPOINT", "ROLLBACK TO", "RELEASE")


@functools.cache
def _limits(sql: str) -> str | None:
    """Return the name of the parameter that says how many rows are wanted, or None."""
    found = _LIMIT.search(sql)
    return None if found is None else found[1]


def is_used_by_others(url: str) -> bool:
    """Whether another process of a coordinator uses the database. Raises `InputError`."""
    with connect(url) as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'pleb-coordinator' AND pid <> pg_backend_pid()"
        )
        return found.fetchone() is not None


def connect(url: str) -> psycopg.Connection[Any]:
    """Return the driver's own connection, for migrations. Raises `InputError`."""
    try:
        return psycopg.connect(_conninfo(url).decode())
    except psycopg.OperationalError as error:
        raise _not_connected(without_password(url), str(error)) from error


def without_password(url: str) -> str:
    """Return the address as it may be shown and logged."""
    parts = urlsplit(url)
    user, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    if not colon:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:...@{parts.netloc.rpartition('@')[2]}"))


def _conninfo(url: str) -> bytes:
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        return make_conninfo("", **(_OPTIONS | given)).encode()
    except psycopg.ProgrammingError as error:
        message = (
            f"{without_password(url)} is not the address of a database ({error}): write it as "
            "postgresql://user@host:5432/database."
        )
        raise InputError(message) from error


def _bound(parameters: Mapping[str, Any], names: tuple[str, ...]) -> tuple[list[Any], list[int]]:
    """Return values and formats.

    Numbers go as text, and the server knows which type their place has. Text goes as bytes: a NUL
    in it would end it.
    """
    values: list[Any] = []
    formats: list[int] = []
    for name in names:
        value = parameters[name]
        if isinstance(value, str):
            values.append(value.encode())
            formats.append(1)
        elif isinstance(value, int):
            values.append(b"%d" % value)
            formats.append(0)
        elif value is None:
            values.append(None)
            formats.append(0)
        elif isinstance(value, float):
            values.append(repr(value).encode())
            formats.append(0)
        else:
            values.append(bytes(value))
            formats.append(1)
    return values, formats


def _not_connected(place: str, error: str) -> InputError:
    """Return the error for a connection that could not be made."""
    reasons = [line for line in error.splitlines() if not line.startswith("\t")]  # no advice
    reason = reasons[-1].strip() if reasons else "no reason given"
    for words, remedy in _REMEDIES.items():
        if words in error:
            return InputError(f"The database {place} refuses us ({reason}): {remedy}.")
    return StoreAwayError(
        f"The database {place} cannot be reached ({reason}): check that it runs, and its address "
        "in coordinator.toml (`store`)."
    )


_REMEDIES: Final = {
    "password authentication failed": "check user and password, in the address, in PGPASSWORD or "
    "in ~/.pgpass",
    "no password supplied": "put its password into the address, PGPASSWORD or ~/.pgpass",
    "does not exist": "create it, with `createuser` and `createdb`, or correct the address",
    "permission denied": "let this user own the database",
    "pg_hba.conf": "let this machine in, in the server's pg_hba.conf",
    "too many": "raise max_connections there: each process needs two to six",
}
