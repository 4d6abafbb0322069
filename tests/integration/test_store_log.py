"""The write-ahead log is moved into the store's file while others read and write."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

from pleb_coordinator.store.checkpoint import keep_log_short
from pleb_coordinator.store.transaction import Store
from tests.conformance.engines import fresh_store


def fill(store, count):
    for _ in range(count):
        with store.write() as tx:
            tx.events.add(1, 0.0, "kind", value="x" * 20_000)


def events(store):
    with store.read() as tx:
        return len(tx.events.after(1, 0, 100_000))


def keeping_short(path, stop):
    pace = {"every_seconds": 0.01, "busy_seconds": 0.05}
    return threading.Thread(target=keep_log_short, args=(path, stop), kwargs=pace)


def test_the_log_starts_again_while_others_write(tmp_path):
    path = fresh_store(tmp_path / "store.sqlite")
    log = tmp_path / "store.sqlite-wal"
    store, stop = Store(path), threading.Event()
    thread = keeping_short(path, stop)
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
    with closing(Store(path)) as store:
        fill(store, 3000)
        assert (tmp_path / "store.sqlite-wal").stat().st_size > 60e6


def test_a_long_reader_only_delays_it(tmp_path):
    path = fresh_store(tmp_path / "store.sqlite")
    stop = threading.Event()
    thread = keeping_short(path, stop)
    with closing(Store(path)) as store, closing(Store(path)) as other:
        with other.read() as tx:
            assert tx.events.last(1, 1) == []
            thread.start()
            fill(store, 1500)
        fill(store, 10)
        stop.set()
        thread.join()
        assert events(store) == 1510
