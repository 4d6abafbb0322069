"""Many small transactions, one commit, so that concurrent requests share its cost.

Functions that arrive while the last commit is under way, or within about a millisecond, run one
after the other in one transaction. No caller gets an answer before the commit: what it learns is on
the disk.

A function that fails undoes its own changes only. Nearly none fails after it has changed something,
so this is not prepared for: then the whole transaction is undone, and its functions **run again**,
each under its own savepoint. So they may do nothing but with the transaction.

Only waiting happens in a thread (for the lock at the beginning, for the disk at the end), so the
event loop reads and checks the next requests meanwhile; the functions themselves run in the loop.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pleb_coordinator.store.engine import is_of_the_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_coordinator.store.transaction import Store, Transaction

__all__ = ["GroupCommit"]

T = TypeVar("T")

GATHER_SECONDS: Final = 0.001
LARGEST_GROUP: Final = 64


@dataclass(frozen=True)
class _Job:
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True)
class _Outcome:
    job: _Job
    value: Any = None
    fault: Exception | None = None


class _TogetherError(Exception):
    """A function has failed when something was changed already."""


class GroupCommit:
    """Runs functions in the caller's event loop, on a store that no other code writes with.

    Reading from that store stays possible while a group is open.
    """

    def __init__(self, store: Store, *, gather_seconds: float = GATHER_SECONDS) -> None:
        self._store = store
        self._gather_seconds = gather_seconds
        self._queue: list[_Job] = []
        self._task: asyncio.Task[None] | None = None
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="commit")

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Return what `function` returns, once its changes are durable.

        It may run twice; what it changed the first time is undone then.

        Raises:
            Whatever `function` raises (its changes are undone), or what the commit raises.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Job(function, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        """Commit group after group until no function is waiting."""
        await asyncio.sleep(self._gather_seconds)
        while self._queue:
            jobs, self._queue = self._queue[:LARGEST_GROUP], self._queue[LARGEST_GROUP:]
            try:
                outcomes = await self._commit(jobs)
            except Exception as error:  # noqa: BLE001 - every caller must learn that nothing is stored
                outcomes = [_Outcome(job, fault=error) for job in jobs]
            for outcome in outcomes:
                future = outcome.job.future
                if future.done():  # its caller has gone
                    continue
                if outcome.fault is None:
                    future.set_result(outcome.value)
                else:
                    future.set_exception(outcome.fault)

    async def _commit(self, jobs: list[_Job]) -> list[_Outcome]:
        """Run `jobs` in one transaction; return the outcome of each."""
        try:
            return await self._transaction(jobs, _together)
        except Exception as error:
            if is_of_the_store(error):
                raise
        return await self._transaction(jobs, _one_by_one)

    async def _transaction(
        self, jobs: list[_Job], run: Callable[[Transaction, _Job], _Outcome]
    ) -> list[_Outcome]:
        loop = asyncio.get_running_loop()
        transaction = self._store.write()
        tx = await loop.run_in_executor(self._waiter, transaction.__enter__)
        try:
            outcomes = [run(tx, job) for job in jobs if not job.future.done()]
        except BaseException:
            transaction.__exit__(*sys.exc_info())
            raise
        await loop.run_in_executor(self._waiter, transaction.__exit__, None, None, None)
        return outcomes


def _together(tx: Transaction, job: _Job) -> _Outcome:
    """Run one of many.

    Raises:
        _TogetherError: it has failed, and has changed something.
    """
    before = tx.changes
    try:
        return _Outcome(job, job.run(tx))
    except Exception as error:
        if tx.changes != before:
            raise _TogetherError from error
        return _Outcome(job, fault=error)


def _one_by_one(tx: Transaction, job: _Job) -> _Outcome:
    """Run one that undoes its own changes if it fails."""
    try:
        with tx.savepoint():
            return _Outcome(job, job.run(tx))
    except Exception as error:  # noqa: BLE001 - the caller gets it from the future
        return _Outcome(job, fault=error)
