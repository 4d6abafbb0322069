"""A home that is moved into a database and a bucket, and back: nothing is lost, and it goes on."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing

import pytest

from pleb_coordinator.cli.main import main
from pleb_coordinator.core.records import FileKind, Upload
from pleb_coordinator.home.config import config_text, read_config, store_place
from pleb_coordinator.steps import deps_of, open_blobs
from pleb_coordinator.store.schema import metadata
from pleb_coordinator.store.transaction import Store, connect
from pleb_shared.protocol.messages import Role
from tests.integration.test_backups import Operator
from tests.postgres import shared_postgres
from tests.s3_server import KEYS, shared_s3

NOT_MOVED = {"claims", "audit"}
"""Claims end with their processes; a command is written down after it is done."""


@pytest.fixture
def operator(tmp_path, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    operator = Operator(tmp_path)
    operator.train(2)
    operator.upload()
    return operator


def rows_of(home):
    """Return all rows of a home's store, by table."""
    with closing(connect(store_place(home), 5.0)) as db:
        db.begin(write=False)
        found = {}
        for table in metadata.sorted_tables:
            names = ", ".join(column.name for column in table.columns)
            found[table.name] = sorted(map(repr, db.execute(f"SELECT {names} FROM {table.name}")))
        db.rollback()
    return {name: rows for name, rows in found.items() if name not in NOT_MOVED}


def run(capsys, operator, *words):
    code = main([*words, "--home", str(operator.home.path), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out or err)


def move(capsys, operator, *places):
    operator.world.store.close()
    before = rows_of(operator.home)
    code, said = run(capsys, operator, "migrate", "--to", *places)
    assert code == 0, said
    assert rows_of(operator.home) == before
    config = read_config(operator.home.config_file)
    operator.world.store = Store(store_place(operator.home, config))
    operator.world.deps = deps_of(operator.home, operator.world.clock, config)
    return said


def test_there_and_back(operator, capsys):
    server, s3 = shared_postgres(), shared_s3()
    server.run("CREATE DATABASE moved")
    bucket = f"s3://{s3.new_bucket()}/pleb"
    last = operator.world.project.version
    hosts = len(rows_of(operator.home)["hosts"])
    there = (server.url("moved"), bucket, "--s3-endpoint", s3.endpoint)
    said = move(capsys, operator, *there)
    assert said["rows"] > 50
    assert said["blobs"] > 5
    assert said["deltas"] == 1
    assert not operator.home.store_file.exists(), "nobody takes it for the store"
    operator.train(2)
    operator.upload()
    operator.world.volunteer("came later", role=Role.TRUSTED)
    assert operator.verify_versions() == last + 3
    for path in operator.home.path.rglob("blobs/??/*"):
        path.unlink()  # what is read below comes from the bucket
    said = move(capsys, operator, "sqlite", "files")
    assert said["deltas"] == 2
    operator.train(2)
    assert operator.verify_versions() == last + 5
    with operator.world.store.read() as tx:
        numbers = sorted(host.id for host in tx.hosts.of_project(1, limit=100))
    assert numbers == list(range(1, hosts + 2))
    blobs = open_blobs(operator.home, read_config(operator.home.config_file))
    assert len(list(blobs.stored(FileKind.DELTA))) == 2


def test_numbers_go_on_after_rows_that_were_removed(operator, capsys):
    """Caches and hosts know them: no later row may have one that was there before."""
    server = shared_postgres()
    gone = operator.world.volunteer("gone", calibrated=False)
    with operator.world.store.write() as tx:
        number = tx.hosts.find(1, gone.key.fingerprint).id
        tx.retention.remove_hosts(1, [number])
    server.run("CREATE DATABASE numbered")
    move(capsys, operator, server.url("numbered"))
    operator.world.volunteer("new", calibrated=False)
    with operator.world.store.read() as tx:
        newest = max(host.id for host in tx.hosts.of_project(1, limit=100))
    assert newest > number


def test_what_has_landed_is_checked_before_anything_moves(operator, capsys):
    """Its host is done with it, so it would be lost."""
    server = shared_s3()
    bucket = f"s3://{server.new_bucket()}/pleb"
    move(capsys, operator, bucket, "--s3-endpoint", server.endpoint)
    config = read_config(operator.home.config_file)
    s3 = dataclasses.replace(config.s3, public=f"{server.endpoint}/{bucket[5:]}")
    operator.home.config_file.write_text(config_text(dataclasses.replace(config, s3=s3)))
    store, now = operator.world.store, operator.world.clock()
    with store.write() as tx:
        tx.uploads.add(Upload("t" * 48, 1, 1, "d", 5, now, now + 9, complete=False))
        assert tx.uploads.land("t" * 48, now, now + 9)
    store.close()
    code, said = run(capsys, operator, "migrate", "--to", "files")
    assert (code, "not checked yet" in said["message"]) == (2, True)
    assert read_config(operator.home.config_file).blobs == bucket
    operator.world.store = Store(store_place(operator.home))
    with operator.world.store.write() as tx:
        tx.uploads.remove("t" * 48)
    move(capsys, operator, "files")
    assert read_config(operator.home.config_file).s3.public == ""


def test_what_cannot_be_moved_stays(operator, capsys):
    server = shared_postgres()
    s3 = shared_s3()
    bucket = ("--to", f"s3://{s3.new_bucket()}/x", "--s3-endpoint", s3.endpoint)
    operator.world.store.close()
    with closing(Store(operator.home.store_file)):
        code, said = run(capsys, operator, "migrate", "--to", server.emptied_database())
        assert (code, "stop every" in said["message"]) == (2, True)
        code, said = run(capsys, operator, "migrate", *bucket)
        assert (code, "stop every" in said["message"]) == (2, True), "files are written, too"
    with operator.home.hold():
        code, said = run(capsys, operator, "migrate", "--to", server.emptied_database())
        assert code != 0
    full = server.emptied_database()
    with closing(Store(full)) as store, store.write() as tx:
        tx.events.add(1, 0.0, "not empty")
    code, said = run(capsys, operator, "migrate", "--to", full)
    assert (code, "give an empty one" in said["message"]) == (2, True)
    code, said = run(capsys, operator, "migrate", "--to", "sqlite")
    assert (code, "there already" in said["message"]) == (2, True)
    code, said = run(capsys, operator, "migrate", "--to", "mysql://x")
    assert (code, "is not a database" in said["message"]) == (2, True)
    damaged = next(operator.home.path.glob("blobs/??/*"))
    damaged.chmod(0o600)
    damaged.write_bytes(b"other")
    code, said = run(capsys, operator, "migrate", *bucket)
    assert code != 0
    assert "damaged" in said["message"]
    config = read_config(operator.home.config_file)
    assert (config.store, config.blobs) == ("", "")
    assert operator.home.store_file.exists()
