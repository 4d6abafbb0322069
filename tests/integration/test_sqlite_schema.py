"""The schema is the sum of its migrations; hot queries use indices; errors say what to do."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from pleb_coordinator.cli.main import main
from pleb_coordinator.store.migrate import migrate
from pleb_coordinator.store.schema import metadata
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError, Refusal, RefusalCode
from tests.conformance.engines import fresh_store
from tests.conformance.statements import statements


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    migrate(path)
    migrate(path)
    return path


def objects(path):
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        found = {name: _parts(text) for name, text in rows}
    connection.close()
    return {n: t for n, t in found.items() if n not in {"alembic_version", "sqlite_sequence"}}


def _parts(text):
    """The clauses of a statement; their order means nothing."""
    head, _, body = re.sub(r"[\s\"]+", " ", text).partition("(")
    return head.strip(), sorted(re.split(r", (?![^()]*\))", body.strip()[:-1].strip()))


def test_the_schema_is_the_sum_of_its_migrations(migrated, tmp_path):
    path = tmp_path / "declared.sqlite"
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    metadata.create_all(engine)
    assert objects(path) == objects(migrated)


HOT = [
    "FIND_PROJECT",
    "GET_VERSION",
    "VERSION_SOURCE",
    "VERSION_NORMS",
    "LOSSES",
    "GET_ROUND",
    "UNSWEPT_BEFORE",
    "FIND_UNIT",
    "GET_UNIT",
    "NEW_RESULT",
    "LOOKED_AT",
    "DUE_UNITS",
    "UNDECIDED_BEFORE",
    "GET_ASSIGNMENT",
    "ASSIGNMENTS_OF_UNIT",
    "REPORTED",
    "UNJUDGED",
    "IN_HAND",
    "CANDIDATES_FOR_HOST",
    "CANDIDATES_FOR_TRUSTED",
    "UNSENT_PURPOSES",
    "LEASE",
    "COMMIT_RESULT",
    "MOVE_ASSIGNMENT",
    "JUDGE",
    "CANCEL_UNSENT",
    "CANCEL_UNSENT_BEFORE",
    "EXPIRED",
    "END_LEASES",
    "NEXT_LEASE_END",
    "UNSENT_VERDICTS",
    "UNRIPE_CREDIT",
    "WITH_DELTA",
    "TAKEN",
    "FIND_HOST",
    "COUNT_TRUSTED",
    "DRAWN_FOR",
    "COUNT_DRAWN_FOR",
    "CANCEL_DRAWN_FOR",
    "NOT_FETCHED",
    "NEXT_FETCH",
    "FOR_TRUSTED",
    "ONLY_FOR_TRUSTED",
    "HAS_HAD",
    "COUNT_EXAM_HOSTS",
    "LONE_RESULTS",
    "LENGTHS_OF_ROUNDS",
    "STEPS_OF_ROUND",
    "FIRST_TRIES_IN_HAND",
    "NEXT_LOOK",
    "LOOK_NOW",
    "EXAMS",
    "COUNT_EXAMS",
    "WAITING_DISPUTES",
    "TO_SPOT_CHECK",
    "PROVEN_HOSTS",
    "HOSTS_OF_UNIT",
    "NETWORKS_OF_UNIT",
    "FIRST_CLASS",
    "GET_ALARM",
    "CONVICTED_FOR",
    "ANSWERED",
    "SAW",
    "GET_REPLY",
    "ADD_TRAITS",
    "FORGET_TRAITS",
    "RECENT_KEYS",
    "TRAITS_FROM",
    "FORGET_PAIRS",
    "RECENT_PAIRS",
    "CLASS_OF",
    "FIND_CLASS",
    "GET_UPLOAD",
    "ANY_EXPIRED_UPLOAD",
    "DUE_TOMBSTONES",
    "CONDEMNED",
    "IS_REFERENCED",
    "LOSSES",
    "HOSTS",
    "HOSTS_BY_FINGERPRINT",
    "MANY_HOSTS",
    "GET_FLEET_VIEW",
    "IN_FLIGHT",
    "UNDECIDED",
    "CHECKS_IN_VAIN",
    "EVALUATIONS",
    "RESTORES",
    "REFERENCES_OF",
    "VERSION_LOAD",
    "OLDEST_KEPT",
    "MILESTONES",
    "NEWEST_READABLE",
    "LAST_NUMBER",
    "ANY_UNSENT_BEFORE",
    "UPLOAD_OF_ASSIGNMENT",
    "OPEN_BLOB",
    "EVENTS_AFTER",
    "LAST_EVENTS",
    "EVENTS_OF_UNIT",
]


@pytest.mark.parametrize("name", HOT)
def test_hot_queries_search_an_index_and_sort_nothing(migrated, name):
    text = statements()[name]
    with sqlite3.connect(migrated) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN " + text, dict.fromkeys(re.findall(r":(\w+)", text), 0)
        ).fetchall()
    connection.close()
    steps = [row[3] for row in plan]
    scans = [s for s in steps if s.startswith("SCAN") and s != "SCAN CONSTANT ROW"]
    slow = [s for s in scans if "USING" not in s] + [s for s in steps if "TEMP B-TREE" in s]
    assert not slow, steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("UNPROVEN_FROM", "hosts_from_network"),
        ("ROUNDS_OF_SUSPENSIONS", "hosts_suspended"),
        ("ADDED_AFTER", "INTEGER PRIMARY KEY"),
        ("FIRST_TRIES_IN_HAND", "assignments_first_tries"),
    ],
)
def test_queries_about_few_rows_do_not_read_the_whole_fleet(migrated, name, index):
    text = statements()[name]
    with closing(sqlite3.connect(migrated)) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN " + text, dict.fromkeys(re.findall(r":(\w+)", text), 0)
        ).fetchall()
    assert index in plan[0][3], plan


def test_a_store_that_is_not_there_or_not_ours_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="pleb-coordinator init"):
        Store(tmp_path / "missing.sqlite")
    other = tmp_path / "other.sqlite"
    other.write_bytes(b"this is no database at all, but some text " * 50)
    with pytest.raises(InputError, match="--home"):
        Store(other)


def test_a_store_that_another_process_blocks_asks_to_try_again(tmp_path):
    path = fresh_store(tmp_path / "store.sqlite")
    other = sqlite3.connect(path, isolation_level=None)
    with closing(Store(path, busy_seconds=0.05)) as store, closing(other):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Refusal) as caught, store.write():
            pass
        assert caught.value.code == RefusalCode.INTERNAL
        assert caught.value.retry_after_seconds
        other.execute("ROLLBACK")
        with store.write() as tx:
            tx.events.add(1, 0.0, "kind")


def test_an_older_schema_asks_for_a_migration(tmp_path):
    path = tmp_path / "store.sqlite"
    migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    with pytest.raises(InputError, match="migrate"):
        Store(path)


def test_a_home_of_the_first_version_says_what_it_is_and_what_to_do(tmp_path, capsys):
    """Its number is that of today's migration, which was written anew since."""
    assert main(["init", "--home", str(tmp_path)]) == 0
    path = tmp_path / "store.sqlite"
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        schema = Path(__file__).with_name("first_version_schema.sql").read_text(encoding="utf-8")
        connection.executescript(schema)
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.commit()
    for command in (["migrate"], ["status"], ["project", "list"]):
        capsys.readouterr()
        assert main([*command, "--home", str(tmp_path)]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert "development version" in sentence
        assert "another --home" in sentence


def test_a_writer_begins_when_another_has_ended(tmp_path):
    path = fresh_store(tmp_path / "store.sqlite")
    with closing(Store(path)) as store:
        began = threading.Event()

        def hold():
            with closing(Store(path)) as other, other.write():
                began.set()
                time.sleep(0.05)

        holder = threading.Thread(target=hold)
        holder.start()
        began.wait()
        with store.write() as tx:
            assert tx.projects.names() == []
            # within the transaction it is as patient as before: a checkpoint may be under way
            (row,) = store._writer.execute("PRAGMA busy_timeout")
            assert row == (30_000,)
        holder.join()
