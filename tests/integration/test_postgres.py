"""A database that is away, busy, wrong or restarted: sentences, and nothing is lost."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import count

import psycopg
import pytest
from sqlalchemy import create_engine, text

from pleb_coordinator.cli.main import main
from pleb_coordinator.core.records import Purpose
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.layout import Home
from pleb_coordinator.store.assignments import Seeker
from pleb_coordinator.store.migrate import migrate
from pleb_coordinator.store.postgres import REWORDED
from pleb_coordinator.store.schema import metadata
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError, Refusal, RefusalCode
from tests.conformance.test_store import new_project, new_units
from tests.postgres import free_port, shared_postgres
from tests.s3_server import KEYS, shared_s3


@pytest.fixture
def server():
    return shared_postgres()


@pytest.fixture
def url(server):
    return server.emptied_database()


def events(store):
    with store.read() as tx:
        return [event.kind for event in tx.events.after(1, 0, 100)]


def add(store, kind):
    with store.write() as tx:
        tx.events.add(1, 0.0, kind)


def refusal(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    assert caught.value.retry_after_seconds
    return caught.value.code


def await_error(url):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            Store(url).close()
        except InputError as error:
            return str(error)
    return ""


def cut_off(store, server, how):
    with store.write() as tx:
        tx.events.add(1, 0.0, "cut off")
        server.stop(how)
        tx.events.add(1, 0.0, "cut off")


SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
ORDER BY 1, 2
"""
INDICES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1
"""


def test_the_schema_is_the_sum_of_its_migrations(server, url):
    server.run("CREATE DATABASE declared")
    found = []
    for place in (server.url("declared"), url):
        engine = create_engine(place.replace("postgresql:", "postgresql+psycopg:"))
        if "declared" in place:
            metadata.create_all(engine)
        with engine.connect() as db:
            found.append([db.execute(text(q)).fetchall() for q in (SHAPE, INDICES)])
        engine.dispose()
    (columns, indices), migrated = found
    assert [columns, indices] == migrated
    assert {"integer", "boolean"}.isdisjoint(column[2] for column in columns)
    assert {column[5] for column in columns if column[2] == "text"} == {"C"}


def test_addresses_that_lead_nowhere_say_what_to_do(server):
    with pytest.raises(InputError, match="check that it runs"):
        Store(f"postgresql://pleb@127.0.0.1:{free_port()}/pleb")
    with pytest.raises(InputError, match="createdb"):
        Store(server.url("there_is_none"))
    with pytest.raises(InputError, match="pleb-coordinator init"):
        Store(server.url("template1"))
    with pytest.raises(InputError, match="not the address of a database"):
        Store(server.url() + "?there_is_no=such")
    with pytest.raises(InputError, match="check that it runs"):
        migrate(f"postgresql://pleb@127.0.0.1:{free_port()}/pleb")


def test_a_wrong_password_is_not_shown(server, url):
    rules = server.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    server.run("CREATE ROLE guest LOGIN PASSWORD 'right'")
    rules.write_text("host all guest 127.0.0.1/32 scram-sha-256\n" + before)
    server.run("SELECT pg_reload_conf()")
    try:
        wrong = url.replace("pleb@", "guest:wrong@")
        said = await_error(wrong)  # the server reads its rules a moment later
        assert "check user and password" in said
        assert "wrong" not in said
        with pytest.raises(InputError, match="pgpass"):
            Store(url.replace("pleb@", "guest@"))
    finally:
        rules.write_text(before)
        server.run("SELECT pg_reload_conf()")
        server.run("DROP ROLE guest")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("UPDATE alembic_version SET version_num = '0000'", "pleb-coordinator migrate"),
        ("UPDATE alembic_version SET version_num = '9999'", "update this program"),
        ("ALTER TABLE hosts DROP COLUMN team", "development version"),
    ],
)
def test_another_schema_says_who_must_be_updated(server, change, sentence):
    place = server.new_database()
    with psycopg.connect(place) as connection:
        connection.execute(change)
    with pytest.raises(InputError, match=sentence):
        Store(place)
    if "9999" in change:
        with pytest.raises(InputError, match=sentence):
            migrate(place)


def test_a_store_that_another_process_keeps_asks_to_try_again(url):
    with closing(Store(url, busy_seconds=0.05)) as store, closing(Store(url)) as other:
        with other.write():
            assert refusal(add, store, "one") == RefusalCode.INTERNAL
            assert events(store) == [], "reading goes on"
        add(store, "one")
        assert events(store) == ["one"]


def test_a_killed_writer_leaves_nothing_and_keeps_nobody_waiting(url):
    program = (
        "import sys, time\n"
        "from pleb_coordinator.store.transaction import Store\n"
        "with Store(sys.argv[1]).write() as tx:\n"
        "    tx.events.add(1, 0.0, 'lost')\n"
        "    print('holds', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with (
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE) as killed,
        closing(Store(url)) as store,
    ):
        assert killed.stdout is not None
        assert killed.stdout.readline()
        killed.kill()
        add(store, "kept")
        assert events(store) == ["kept"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_restarted_database_is_used_again(server, url, how):
    with closing(Store(url)) as store:
        add(store, "before")
        seen = store.commits_of_others()
        assert refusal(cut_off, store, server, how) == RefusalCode.INTERNAL
        assert refusal(events, store) == RefusalCode.INTERNAL
        assert store.commits_of_others() != seen, "others may have committed meanwhile"
        server.start()
        assert events(store) == ["before"]
        add(store, "after")
        assert events(store) == ["before", "after"]


def test_every_statement_after_a_cut_is_refused(server, url):
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'pleb-coordinator'"
    )

    def write(store):
        with store.write() as tx:
            tx.events.add(1, 0.0, "lost")
            server.run(cut)
            tx.events.add(1, 0.0, "lost")  # what became of it was not asked yet
            assert refusal(tx.projects.names) == RefusalCode.INTERNAL
            found = [refusal(tx.events.add, 1, 0.0, "lost") for _ in range(3)]
            assert found == [RefusalCode.INTERNAL] * 3

    with closing(Store(url)) as store:
        assert refusal(write, store) == RefusalCode.INTERNAL
        add(store, "after")
        assert events(store) == ["after"]


def test_a_server_that_cannot_write_any_more_is_left(server, url):
    """As after a failover, when an address leads to the old primary for a while."""
    database = url.rpartition("/")[2].partition("?")[0]
    server.run(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with closing(Store(url)) as store:
        assert refusal(add, store, "lost") == RefusalCode.INTERNAL
        assert events(store) == []
        server.run(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        add(store, "kept")
        assert events(store) == ["kept"]


def test_text_that_a_database_cannot_hold_is_refused(url):
    with closing(Store(url)) as store:
        with pytest.raises(Refusal) as caught:
            add(store, "with\0zero")
        assert caught.value.code == RefusalCode.MALFORMED
        add(store, "\U0001f600 'quoted' %s $1 :name")
        assert events(store) == ["\U0001f600 'quoted' %s $1 :name"]


def test_what_is_not_durable_is_seen_by_all_at_once(url):
    with closing(Store(url)) as store, closing(Store(url)) as other:
        with store.write(durable=False) as tx:
            tx.events.add(1, 0.0, "soon")
        assert events(other) == ["soon"]


def test_what_was_sent_ahead_is_asked_again_if_its_table_has_changed(url):
    query, other = "SELECT count(*) FROM events", "SELECT count(*) FROM audit"
    with closing(Store(url)) as store, store.write() as tx:
        db = tx._db
        for text in (query, other):
            db.expect(text)
        assert db.execute(query).fetchone() == (0,)
        for text in (query, other):
            db.expect(text)
        tx.events.add(1, 0.0, "one")
        assert db.execute(query).fetchone() == (1,)
        assert db.execute(other).fetchone() == (0,)
        db.expect(query)

        def undone():
            with tx.savepoint():
                tx.events.add(1, 0.0, "two")
                db.expect(query)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            undone()
        assert db.execute(query).fetchone() == (1,)


def test_what_failed_unseen_undoes_its_own_savepoint_and_no_other(url):
    with closing(Store(url)) as store, store.write() as tx:
        with tx.savepoint():
            tx.events.add(1, 0.0, "first")

        def failing():
            with tx.savepoint():
                tx.events.add(1, 0.0, "second")
                tx._db.execute("INSERT INTO alembic_version VALUES ('0001')")  # nobody looks at it
                tx.events.add(1, 0.0, "third")

        with pytest.raises(psycopg.Error):
            failing()
        with tx.savepoint():
            tx.events.add(1, 0.0, "fourth")
        assert [event.kind for event in tx.events.after(1, 0, 9)] == ["first", "fourth"]


def test_a_failed_statement_undoes_only_its_savepoint(url):
    with closing(Store(url)) as store:
        with store.write() as tx:
            tx.events.add(1, 0.0, "one")
            with pytest.raises(psycopg.errors.ForeignKeyViolation), tx.savepoint():
                tx.hosts.note_network(999, "n", 0.0)
            tx.events.add(1, 0.0, "two")
        assert events(store) == ["one", "two"]


class TestCommands:
    def run(self, capsys, tmp_path, *words):
        code = main([*words, "--home", str(tmp_path / "home"), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out or err)

    def test_a_home_whose_rows_and_files_are_elsewhere(self, capsys, tmp_path, server, monkeypatch):
        server.run("CREATE DATABASE commands")
        place, s3 = server.url("commands"), shared_s3()
        bucket = f"s3://{s3.new_bucket()}/pleb"
        places = ("--store", place, "--blobs", bucket, "--s3-endpoint", s3.endpoint)
        for name, value in KEYS.items():
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
        assert self.run(capsys, tmp_path, "init", *places)[1]["created"]
        home = Home(tmp_path / "home")
        config = read_config(home.config_file)
        assert (config.store, config.blobs, config.s3.endpoint) == (place, bucket, s3.endpoint)
        assert home.config_file.stat().st_mode & 0o077 == 0, "it may have a password"
        assert not home.store_file.exists()
        assert self.run(capsys, tmp_path, "init", *places)[0] == 0
        code, said = self.run(capsys, tmp_path, "doctor")
        assert (code, said["good"]) == (0, True), said
        for command in (["migrate"], ["status"], ["compact"], ["invite", "list"]):
            assert self.run(capsys, tmp_path, *command)[0] == 0
        code, said = self.run(capsys, tmp_path, "log", "--audit")
        assert code == 0
        assert "postgresql" not in json.dumps(said)
        code, said = self.run(capsys, tmp_path, "init", "--store", server.url("another"))
        assert (code, "elsewhere" in said["message"]) == (2, True)
        code, said = self.run(capsys, tmp_path, "backup", str(tmp_path / "backups"))
        assert (code, "their own tools" in said["message"]) == (2, True)

    def test_a_database_that_starts_after_us_is_waited_for(self, capsys, tmp_path, server):
        """As after a power cut: `work` is up before the database of the same machine."""
        url = server.emptied_database()
        assert self.run(capsys, tmp_path, "init", "--store", url)[0] == 0
        server.stop(signal.SIGQUIT)
        home = ("--home", str(tmp_path / "home"))
        command = [sys.executable, "-m", "pleb_coordinator.cli", "work", *home]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            try:
                said = process.stdout.readline().decode()
                assert re.match("Waiting up to 60 s. The database .* cannot be reached", said)
                server.start()
                assert process.stdout.readline().decode().startswith("Running")
            finally:
                process.terminate()
                if server.process is None:
                    server.start()
        assert process.returncode == 0

    def test_a_database_that_is_away(self, capsys, tmp_path, server, monkeypatch):
        for name, value in KEYS.items():  # without keys a cloud's own address would be asked
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
        place = f"postgresql://pleb:secret@127.0.0.1:{free_port()}/pleb"
        code, said = self.run(capsys, tmp_path, "init", "--store", place)
        assert (code, "check that it runs" in said["message"]) == (2, True)
        assert "secret" not in json.dumps(said)
        assert not Home(tmp_path / "home").exists
        code, said = self.run(capsys, tmp_path, "init", "--store", "mysql://db/pleb")
        assert (code, "is not a database" in said["message"]) == (2, True)
        code, said = self.run(capsys, tmp_path, "init", "--blobs", "s3:bucket")
        assert (code, "is no bucket" in said["message"]) == (2, True)
        nowhere = f"http://127.0.0.1:{free_port()}"
        words = ("--blobs", "s3://bucket/x", "--s3-endpoint", nowhere)
        code, said = self.run(capsys, tmp_path, "init", *words)
        assert (code, "that it runs" in said["message"]) == (2, True)
        assert not Home(tmp_path / "home").exists


def test_a_search_for_work_begins_at_what_is_unsent(server):
    """Also while its statistics are of a time when nearly everything was unsent."""
    place = server.new_database()
    with closing(Store(place)) as store, store.write() as tx:
        new_units(tx, new_project(tx), 5000)
    with psycopg.connect(place, autocommit=True) as db:
        db.execute("ANALYZE")
        db.execute("UPDATE assignments SET state = 'valid' WHERE id < 4900")
    with closing(Store(place)) as store, store.read() as tx:
        for trusted in (False, True):
            seeker = Seeker(1, "account", "", "", trusted, 0.0)
            found = tx.assignments.candidates(1, Purpose.PRIMARY, seeker, 4)
            assert [assignment.id for assignment, _ in found] == [4900, 4901, 4902, 4903]
    with psycopg.connect(place) as db:
        db.execute("SET enable_seqscan = off")
        for query in REWORDED.values():
            numbers = count(1)
            text = re.sub(":[a-z_]+", lambda _: f"${next(numbers)}", query)  # noqa: B023
            text = re.sub(r"LIMIT \$\d+", "LIMIT 4", text)
            plan = str(db.cursor().execute("EXPLAIN (GENERIC_PLAN) " + text).fetchall())
            assert "assignments_unsent" in plan
            assert "assignments_pkey" not in plan
