"""Many small transactions, one commit, so that concurrent requests share its cost.

Functions that arrive while the last commit is under way, or within about a millisecond, run one
after the other in one transaction, each under its own savepoint, so that a failing one undoes
only its own changes. No caller gets an answer before the commit: what it learns is on the disk.

Only waiting happens in a thread (for the lock at the beginning, for the disk at the end), so the
event loop reads and checks the next requests meanwhile; the functions themselves run in the loop.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

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
            outcomes: list[tuple[_Job, Any, BaseException | None]] = []
            try:
                await self._commit(jobs, outcomes)
            except Exception as error:  # noqa: BLE001 - every caller must learn that nothing is stored
                outcomes = [(job, None, error) for job in jobs]
            for job, value, fault in outcomes:
                if job.future.done():  # its caller has gone
                    continue
                if fault is None:
                    job.future.set_result(value)
                else:
                    job.future.set_exception(fault)

    async def _commit(
        self, jobs: list[_Job], outcomes: list[tuple[_Job, Any, BaseException | None]]
    ) -> None:
        """Run `jobs` in one transaction and append the outcome of each."""
        loop = asyncio.get_running_loop()
        transaction = self._store.write()
        tx = await loop.run_in_executor(self._waiter, transaction.__enter__)
        try:
            outcomes.extend(_run(tx, job) for job in jobs if not job.future.done())
        except BaseException:
            transaction.__exit__(*sys.exc_info())
            raise
        await loop.run_in_executor(self._waiter, transaction.__exit__, None, None, None)


def _run(tx: Transaction, job: _Job) -> tuple[_Job, Any, BaseException | None]:
    try:
        with tx.savepoint():
            return job, job.run(tx), None
    except Exception as error:  # noqa: BLE001 - the caller gets it from the future
        return job, None, error
