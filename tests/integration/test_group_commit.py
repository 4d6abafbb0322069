"""Group commit: one commit for many, each under its own savepoint, nobody told too early."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import contextmanager
from typing import cast

import pytest

from pleb_coordinator.store.group_commit import GroupCommit
from pleb_coordinator.store.transaction import Store
from tests.conformance.engines import fresh_store


@pytest.fixture
def store(tmp_path):
    store = Store(fresh_store(tmp_path / "store.sqlite"))
    yield store
    store.close()


def add(value):
    def function(tx):
        tx.events.add(1, 0.0, "kind", value=value)
        if value == "bad":
            raise ValueError(value)
        return value

    return function


def stored(store):
    with store.read() as tx:
        return len(tx.events.after(1, 0, 10_000))


def test_a_failing_one_undoes_only_itself(store):
    async def run():
        group = GroupCommit(store)
        jobs = [group.run(add(value)) for value in (1, "bad", 3)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)
    assert stored(store) == 2


def test_only_a_failure_after_a_change_makes_all_run_again(store):
    runs = []

    def refused(tx):
        runs.append("refused")
        raise LookupError

    def counted(tx):
        runs.append("counted")
        return add(1)(tx)

    async def run(*functions):
        group = GroupCommit(store)
        jobs = [group.run(function) for function in functions]
        return await asyncio.gather(*jobs, return_exceptions=True)

    asyncio.run(run(counted, refused))
    assert (runs, stored(store)) == (["counted", "refused"], 1)
    asyncio.run(run(counted, add("bad")))
    assert (runs[2:], stored(store)) == (["counted", "counted"], 2)


def test_many_share_few_commits(store):
    commits = []

    class Counted:
        def write(self):
            commits.append(1)
            return store.write()

    async def run():
        group = GroupCommit(cast("Store", Counted()))
        return await asyncio.gather(*(group.run(add(value)) for value in range(500)))

    assert asyncio.run(run()) == list(range(500))
    assert stored(store) == 500
    assert len(commits) < 50


def test_nobody_is_answered_when_the_commit_fails(store):
    class Failing:
        @contextmanager
        def write(self):
            with store.write() as tx:
                yield tx
                message = "disk I/O error"
                raise sqlite3.OperationalError(message)

    async def run():
        group = GroupCommit(cast("Store", Failing()))
        return await asyncio.gather(*(group.run(add(n)) for n in range(3)), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert all(isinstance(o, sqlite3.OperationalError) for o in outcomes)
    assert stored(store) == 0


def test_who_has_gone_away_costs_nothing(store):
    async def run():
        group = GroupCommit(store)
        gone = asyncio.ensure_future(group.run(add("gone")))
        stays = asyncio.ensure_future(group.run(add("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(run()) == "stays"
    assert stored(store) == 1
