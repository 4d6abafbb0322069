"""Many small transactions, one commit: what a commit costs is shared by who waits for it.

Functions that arrive within about a millisecond run one after the other in one transaction,
each under its own savepoint, so that a failing one undoes only itself. Nobody is answered
before the commit: what a caller learns is on the disk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_coordinator.store.interface import Store, Transaction

__all__ = ["GroupCommit"]

T = TypeVar("T")

GATHER_SECONDS: Final = 0.001
LARGEST_GROUP: Final = 64


@dataclass(frozen=True)
class _Job:
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]


class GroupCommit:
    """Runs functions in the event loop of its caller, against a store that is its own."""

    def __init__(self, store: Store, *, gather_seconds: float = GATHER_SECONDS) -> None:
        self._store = store
        self._gather_seconds = gather_seconds
        self._queue: list[_Job] = []

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Return what `function` returns, once its changes are durable.

        Raises:
            Whatever `function` raises (its changes are undone), or what the commit raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append(_Job(function, future))
        if len(self._queue) == 1:
            loop.call_later(self._gather_seconds, self._commit)
        return await future

    def _commit(self) -> None:
        """Carry out what waits; what does not fit goes into the next group."""
        jobs, self._queue = self._queue[:LARGEST_GROUP], self._queue[LARGEST_GROUP:]
        if self._queue:
            asyncio.get_running_loop().call_soon(self._commit)
        outcomes: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            with self._store.write() as tx:
                outcomes.extend(_carry_out(tx, job) for job in jobs if not job.future.done())
        except Exception as error:  # noqa: BLE001 - every waiter must learn that nothing is stored
            outcomes = [(job, None, error) for job in jobs]
        for job, value, fault in outcomes:
            if fault is not None:
                _fail(job, fault)
            elif not job.future.done():
                job.future.set_result(value)


def _carry_out(tx: Transaction, job: _Job) -> tuple[_Job, Any, BaseException | None]:
    try:
        with tx.savepoint():
            return job, job.run(tx), None
    except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it from the future
        return job, None, error


def _fail(job: _Job, error: BaseException) -> None:
    if not job.future.done():
        job.future.set_exception(error)
