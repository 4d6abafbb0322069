"""The write-ahead log is moved into the store's file beside everybody's work."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

from pleb_coordinator.store import checkpoint
from pleb_coordinator.store.sqlite import SqliteStore
from tests.conformance.fresh_store import fresh_store


def fill(store, count):
    for _ in range(count):
        with store.write() as tx:
            tx.events.add(1, 0.0, "kind", value="x" * 20_000)


def events(store):
    with store.read() as tx:
        return len(tx.events.after(1, 0, 100_000))


def test_the_log_starts_anew_while_others_write(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.01)
    path = fresh_store(tmp_path / "store.sqlite")
    log = tmp_path / "store.sqlite-wal"
    store, stop = SqliteStore(path), threading.Event()
    thread = threading.Thread(target=checkpoint.keep_log_short, args=(path, stop))
    thread.start()
    try:
        fill(store, 3000)  # 60 MB
        assert events(store) == 3000
    finally:
        stop.set()
        thread.join()
        store.close()
    assert not log.exists() or log.stat().st_size < 40e6
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)


def test_without_it_the_log_only_grows(tmp_path):
    path = fresh_store(tmp_path / "store.sqlite")
    with closing(SqliteStore(path)) as store:
        fill(store, 3000)
        assert (tmp_path / "store.sqlite-wal").stat().st_size > 60e6


def test_a_reader_in_the_way_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(checkpoint, "_BUSY_SECONDS", 0.05)
    path = fresh_store(tmp_path / "store.sqlite")
    stop = threading.Event()
    thread = threading.Thread(target=checkpoint.keep_log_short, args=(path, stop))
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path)) as other:
        with other.read() as tx:
            assert tx.events.last(1, 1) == []
            thread.start()
            fill(store, 1500)
        fill(store, 10)
        stop.set()
        thread.join()
        assert events(store) == 1510
